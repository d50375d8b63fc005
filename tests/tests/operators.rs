//! What operators do to an account, by `kindred ctl` over mutual TLS between real processes; and that nobody else may.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;
use std::sync::Arc;

use kindred_client::{Client, Error, Operator};
use kindred_core::id::{AccountId, SessionId};
use kindred_tests::cluster::files;
use kindred_tests::people::{Level, validate};
use kindred_tests::{Cluster, Options, People, REGIONS, Told, kindred, story};
use kindred_wire::net::Tcp;
use kindred_wire::reason::Reason;
use kindred_wire::tls::Tls;
use serde_json::Value;

/// Exit code, and the value that was printed or the error that was told.
fn ctl(cluster: &Cluster, tls: &Path, args: &[&str]) -> (i32, Value) {
    let mut command = kindred().unwrap();
    command.args(["ctl", "account", "ann"]).args(args).arg("--tls").arg(tls);
    let ran = command.args(["--output", "json", "--address", &cluster.nodes[0].gateway]).output().unwrap();
    let value = serde_json::from_slice(&ran.stdout).unwrap_or_else(|_| String::from_utf8_lossy(&ran.stderr).into());
    (ran.status.code().unwrap(), value)
}

/// A client that shows this holder's certificate.
fn client(cluster: &Cluster, holder: &str) -> Client {
    let net = Arc::new(Tls::new(Arc::new(Tcp), files(&cluster.tls(), holder)).unwrap());
    Client::connect(net, &[cluster.nodes[1].gateway.clone()]).unwrap()
}

fn refused<T: std::fmt::Debug>(answer: Result<T, Error>) -> Option<Reason> {
    answer.unwrap_err().reason()
}

#[tokio::test]
async fn an_operators_certificate_locks_and_unlinks_and_a_gateways_does_not() {
    story(async {
        let cluster = Cluster::start(Options::default()).await.unwrap();
        let all = cluster.client(&[0, 1, 2]).unwrap();
        let people = People::new(&all).await.unwrap();
        let mut phone = people.register(&all, "ann", REGIONS[1]).await.unwrap();
        let companion = people.link(&mut phone, &all, &all).await.unwrap().member.session;
        let told = async || validate(&all, &phone.account, &companion, Level::Linearizable).await;

        let nobody = Nobody { cluster: &cluster, account: &phone.account, session: companion, people: &people };
        nobody.is_refused().await;
        assert_eq!(told().await, Told::Valid);

        let tls = cluster.tls();
        let (code, locked) = ctl(&cluster, &tls, &["lock"]);
        assert_eq!((code, &locked["locked"]), (0, &Value::Bool(true)), "{locked}");
        let (_, shown) = ctl(&cluster, &tls, &["show"]);
        assert_eq!((&shown["locked"], &shown["sessions"]), (&Value::Bool(true), &Value::from(2)), "{shown}");
        assert!(matches!(told().await, Told::Nothing(_)), "a locked account's sessions are suspended, not ended");
        assert_eq!(refused(all.set_limit(&phone, 5, people.request()).await), Some(Reason::EpochChanged));
        assert_eq!(ctl(&cluster, &tls, &["unlock"]).0, 0);
        assert_eq!(told().await, Told::Valid);

        let (code, ended) = ctl(&cluster, &tls, &["unlink", &companion.to_string()]);
        assert_eq!(code, 0, "{ended}");
        assert_eq!(told().await, Told::SignedOut);
        let text = ended.to_string();
        assert!(text.contains("ADMIN_REVOKED") && text.contains(&companion.to_string()), "{text}");
        assert!(text.contains("operator"), "the tombstone names who did it: {text}");
    })
    .await;
}

/// A gateway that asks for what only an operator may.
struct Nobody<'a> {
    cluster: &'a Cluster,
    account: &'a AccountId,
    session: SessionId,
    people: &'a People,
}

impl Nobody<'_> {
    async fn is_refused(&self) {
        let client = client(self.cluster, "gateway");
        let ask = || Operator { client: &client, account: self.account, request: self.people.request() };
        let answers = [
            refused(ask().lock().await),
            refused(ask().unlock().await),
            refused(ask().unlink(&self.session, false).await),
            refused(ask().unlink(&self.session, true).await),
            refused(ask().unlink_others(&self.session).await),
            refused(ask().pin(&self.session, true).await),
            refused(ask().set_limit(9).await),
            refused(ask().delete_account().await),
        ];
        assert_eq!(answers, [Some(Reason::CallerNotAllowed); 8]);
        // The same with the command line: a directory in which the operator's files are the gateway's.
        let dir = self.cluster.root().join("disguised");
        std::fs::create_dir(&dir).unwrap();
        for (from, to) in [("gateway.pem", "operator.pem"), ("gateway.key", "operator.key"), ("ca.pem", "ca.pem")] {
            std::fs::copy(self.cluster.tls().join(from), dir.join(to)).unwrap();
        }
        let (code, said) = ctl(self.cluster, &dir, &["lock"]);
        assert_eq!(code, 3, "{said}");
        assert!(said.to_string().contains("CALLER_NOT_ALLOWED"), "{said}");
    }
}
