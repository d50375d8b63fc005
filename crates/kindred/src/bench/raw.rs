//! Unary calls whose request was encoded beforehand: the generator shares the cores with what it measures.

use std::marker::PhantomData;
use std::time::Duration;

use bytes::{BufMut as _, Bytes};
use http::uri::PathAndQuery;
use prost::Message;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::transport::Channel;
use tonic::{Request, Status};

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
