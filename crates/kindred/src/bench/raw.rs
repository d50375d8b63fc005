//! Calls whose requests were encoded beforehand: the generator shares the cores with what it measures.

use std::marker::PhantomData;
use std::time::Duration;

use bytes::{BufMut as _, Bytes};
use futures::future::BoxFuture;
use http::uri::PathAndQuery;
use prost::Message;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::transport::Channel;
use tonic::{Request, Status, Streaming};

/// A call may take this long; then it has failed.
pub(super) const ANSWER_WITHIN: Duration = Duration::from_secs(20);

/// Calls `path` (`/package.Service/Method`) once.
pub(super) async fn unary<R: Message + Default + 'static>(
    channel: &Channel,
    path: &'static str,
    request: Bytes,
) -> Result<R, Status> {
    let call = async {
        let mut grpc = tonic::client::Grpc::new(channel.clone());
        grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
        grpc.unary(Request::new(request), PathAndQuery::from_static(path), Encoded(PhantomData)).await
    };
    match tokio::time::timeout(ANSWER_WITHIN, call).await {
        Ok(answer) => Ok(answer?.into_inner()),
        Err(_) => Err(Status::deadline_exceeded("no answer in time")),
    }
}

/// A stream on which one message is asked and answered after the other.
pub(super) struct Conversation<R> {
    say: mpsc::Sender<Bytes>,
    hear: BoxFuture<'static, Result<Streaming<R>, Status>>,
    begun: Option<Streaming<R>>,
}

impl<R: Message + Default + 'static> Conversation<R> {
    /// Begins with the first message.
    pub(super) fn begin(channel: &Channel, path: &'static str) -> Self {
        let (say, said) = mpsc::channel(1);
        let channel = channel.clone();
        let hear = async move {
            let mut grpc = tonic::client::Grpc::new(channel);
            grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
            let request = Request::new(ReceiverStream::new(said));
            let answer = grpc.streaming(request, PathAndQuery::from_static(path), Encoded(PhantomData)).await;
            answer.map(tonic::Response::into_inner)
        };
        Self { say, hear: Box::pin(hear), begun: None }
    }

    /// Sends this one and waits for its answer.
    pub(super) async fn ask(&mut self, message: Bytes) -> Result<R, Status> {
        let ended = || Status::unavailable("the stream has ended");
        let answer = async {
            self.say.send(message).await.map_err(|_| ended())?;
            let mut hear = match self.begun.take() {
                Some(begun) => begun,
                None => (&mut self.hear).await?,
            };
            let answer = hear.message().await?.ok_or_else(ended)?;
            self.begun = Some(hear);
            Ok(answer)
        };
        match tokio::time::timeout(ANSWER_WITHIN, answer).await {
            Ok(answer) => answer,
            Err(_) => Err(Status::deadline_exceeded("no answer in time")),
        }
    }
}

/// Requests are bytes already, replies are decoded.
struct Encoded<R>(PhantomData<fn() -> R>);

impl<R: Message + Default + 'static> Codec for Encoded<R> {
    type Encode = Bytes;
    type Decode = R;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self(PhantomData)
    }

    fn decoder(&mut self) -> Self {
        Self(PhantomData)
    }
}

impl<R> Encoder for Encoded<R> {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        out.put(item);
        Ok(())
    }
}

impl<R: Message + Default> Decoder for Encoded<R> {
    type Item = R;
    type Error = Status;

    fn decode(&mut self, input: &mut DecodeBuf<'_>) -> Result<Option<R>, Status> {
        R::decode(input).map(Some).map_err(|error| Status::internal(error.to_string()))
    }
}
