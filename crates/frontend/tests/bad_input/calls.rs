//! Calls by path with whatever bytes, through all layers that the public services have, and no connection.

use std::time::Duration;

use bytes::{Buf as _, BufMut as _, Bytes};
use http::uri::PathAndQuery;
use kindred_wire::caller::Caller;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::service::Routes;
use tonic::{Request, Status};

/// Bytes as they are.
#[derive(Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }
    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        out.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, input: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(input.copy_to_bytes(input.remaining())))
    }
}

/// Calls `method` as `caller`; the first message of the answer, or why there is none.
pub async fn call(
    routes: &Routes,
    caller: Caller,
    method: &str,
    body: Vec<u8>,
    within: Option<Duration>,
) -> Result<Bytes, Status> {
    let service = tower::util::MapRequest::new(routes.clone(), move |mut request: http::Request<_>| {
        request.extensions_mut().insert(caller.clone());
        request
    });
    let mut grpc = tonic::client::Grpc::new(service);
    grpc.ready().await.map_err(|error| Status::unknown(error.to_string()))?;
    let mut request = Request::new(Bytes::from(body));
    if let Some(within) = within {
        request.set_timeout(within);
    }
    let path = PathAndQuery::try_from(format!("/{method}")).unwrap();
    let mut answers = grpc.server_streaming(request, path, Raw).await?.into_inner();
    answers.message().await?.ok_or_else(|| Status::unknown("an empty answer"))
}
