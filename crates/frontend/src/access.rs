//! Who may call what: one table of methods and roles, and the layer that asks it before anything else happens.
//!
//! **Invariant:** what the table does not allow does not reach a service. A method that is not in it is answered like one
//! that does not exist, so forgetting a row takes a method away and never opens it.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Request, Response};
use kindred_core::env::Env;
use kindred_wire::caller::{Caller, Role};
use kindred_wire::reason::Reason;
use kindred_wire::status::{Failure, explained};
use tonic::service::Routes;
use tonic::{Code, Status};
use tower::{Layer, Service};

use crate::metrics;
use crate::seldom::Seldom;

/// Nodes only.
const NODES: &[Role] = &[Role::Node];
/// What devices ask for, through gateways; an operator may do so by hand.
const DEVICES: &[Role] = &[Role::Gateway, Role::Operator];
/// What no device may ask for.
const OPERATORS: &[Role] = &[Role::Operator];
/// Whoever has a certificate.
const ALL: &[Role] = &Role::ALL;

/// A method and the roles that may call it.
#[derive(Clone, Copy, Debug)]
pub struct Row(pub &'static str, pub &'static [Role]);

/// Every method of every service, public and internal, in order of its name.
pub const METHODS: &[Row] = &[
    Row("grpc.health.v1.Health/Check", ALL),
    Row("grpc.health.v1.Health/List", ALL),
    Row("grpc.health.v1.Health/Watch", ALL),
    Row("grpc.reflection.v1.ServerReflection/ServerReflectionInfo", DEVICES),
    Row("kindred.account.v1.Account/Delete", DEVICES),
    Row("kindred.account.v1.Account/GetAccount", DEVICES),
    Row("kindred.account.v1.Account/GetCluster", DEVICES),
    Row("kindred.account.v1.Account/Lock", OPERATORS),
    Row("kindred.account.v1.Account/Register", DEVICES),
    Row("kindred.account.v1.Account/ReplacePrimary", DEVICES),
    Row("kindred.account.v1.Account/SetLimit", DEVICES),
    Row("kindred.account.v1.Account/Unlock", OPERATORS),
    Row("kindred.admin.v1.Admin/ExportAccounts", OPERATORS),
    Row("kindred.admin.v1.Admin/ImportAccounts", OPERATORS),
    Row("kindred.pairing.v1.Pairing/ApproveTicket", DEVICES),
    Row("kindred.pairing.v1.Pairing/CancelTicket", DEVICES),
    Row("kindred.pairing.v1.Pairing/DenyTicket", DEVICES),
    Row("kindred.pairing.v1.Pairing/OpenTicket", DEVICES),
    Row("kindred.pairing.v1.Pairing/ScanTicket", DEVICES),
    Row("kindred.pairing.v1.Pairing/WatchTicket", DEVICES),
    Row("kindred.raft.v1.Peer/Exchange", NODES),
    Row("kindred.session.v1.Session/ListSessions", DEVICES),
    Row("kindred.session.v1.Session/Pin", DEVICES),
    Row("kindred.session.v1.Session/Reconcile", DEVICES),
    Row("kindred.session.v1.Session/RotateDeviceKey", DEVICES),
    Row("kindred.session.v1.Session/Unlink", DEVICES),
    Row("kindred.session.v1.Session/UnlinkOthers", DEVICES),
    Row("kindred.session.v1.Session/Validate", DEVICES),
    Row("kindred.session.v1.Session/ValidateStream", DEVICES),
    Row("kindred.session.v1.Session/WatchAccount", DEVICES),
    Row("kindred.session.v1.Session/WhySignedOut", DEVICES),
    Row("kindred.testing.v1.Points/Hold", DEVICES),
    Row("kindred.testing.v1.Points/Status", DEVICES),
];

/// The row of a method, `package.Service/Method`.
pub fn row(method: &str) -> Option<&'static Row> {
    METHODS.binary_search_by(|row| row.0.cmp(method)).ok().and_then(|at| METHODS.get(at))
}

/// Puts the table in front of all of `routes`. Every request must carry a [`Caller`] in its extensions.
pub fn guarded(routes: Routes, env: Env) -> Routes {
    let told = Arc::new(Seldom::new(env.clone()));
    Routes::from(routes.into_axum_router().layer(Guard { env, told }))
}

/// The layer.
#[derive(Clone)]
pub struct Guard {
    env: Env,
    told: Arc<Seldom>,
}

impl<S> Layer<S> for Guard {
    type Service = Guarded<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Guarded { inner, guard: self.clone() }
    }
}

/// What [`Guard`] makes of a service.
#[derive(Clone)]
pub struct Guarded<S> {
    inner: S,
    guard: Guard,
}

impl<S, Req, Res> Service<Request<Req>> for Guarded<S>
where
    S: Service<Request<Req>, Response = Response<Res>>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
    Res: Default + Send + 'static,
{
    type Response = Response<Res>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Req>) -> Self::Future {
        let method = request.uri().path().strip_prefix('/').unwrap_or_default();
        let (row, caller) = match self.guard.allowed(method, request.extensions().get::<Caller>()) {
            Ok(allowed) => allowed,
            Err(status) => return Box::pin(std::future::ready(Ok(status.into_http()))),
        };
        let (clock, started_ms) = (self.guard.env.clock.clone(), self.guard.env.clock.monotonic_ms());
        let answer = self.inner.call(request);
        Box::pin(async move {
            let answered = answer.await;
            let took = metrics::seconds(clock.monotonic_ms().saturating_sub(started_ms));
            ::metrics::histogram!(metrics::CALL_SECONDS, "method" => row.0, "role" => caller.name()).record(took);
            answered
        })
    }
}

impl Guard {
    fn allowed(&self, method: &str, caller: Option<&Caller>) -> Result<(&'static Row, Role), Box<Status>> {
        let role = caller.map(|caller| caller.role);
        let refused = |status| {
            let reason = Reason::of(&status).map_or("none", Reason::name);
            ::metrics::counter!(metrics::REFUSALS, "reason" => reason).increment(1);
            Box::new(status)
        };
        let forbidden = || {
            let role = role.map_or("none", Role::name);
            Status::from(Failure::new(Reason::CallerNotAllowed).with("role", role))
        };
        match (row(method), role) {
            (_, None) => Err(refused(forbidden())),
            // Tools probe for methods and rely on this very code.
            (None, Some(_)) => {
                let status = Status::unimplemented("no such method");
                Err(refused(explained(&status, Code::Unimplemented, Reason::InvalidRequest)))
            }
            (Some(row), Some(role)) if row.1.contains(&role) => Ok((row, role)),
            (Some(row), Some(role)) => {
                let name = caller.map(|caller| &*caller.name).unwrap_or_default();
                if self.told.may() {
                    tracing::warn!(
                        method = row.0,
                        role = role.name(),
                        name,
                        "a caller asked for what its role may not do"
                    );
                }
                Err(refused(forbidden()))
            }
        }
    }
}
