//! Who gets through, on real sockets; and what happens when the files change.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::sync::Arc;

use kindred_wire::caller::{Caller, Role};
use kindred_wire::net::{Listener, Net, Stream, Tcp};
use kindred_wire::tls::{Error, Reloaded, Tls};
use support::{Authority, Certified, Place};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

const NODE_A: &str = "spiffe://kindred/t/node/a";
const NODE_B: &str = "spiffe://kindred/t/node/b";
const GATEWAY: &str = "spiffe://kindred/t/gateway/edge";
const OPERATOR: &str = "spiffe://kindred/t/operator/ops";

fn tls(certified: &Certified, trust: &str) -> Result<(Arc<Tls>, Place), Error> {
    let place = Place::new(certified, trust);
    Ok((Arc::new(Tls::new(Arc::new(Tcp), place.files())?), place))
}

/// What both ends made of one connection: who the server says calls, who the client says answers.
type Met = (Result<Caller, String>, Result<Caller, String>);

async fn accept(listener: &mut dyn Listener) -> Result<Stream, String> {
    let stream = listener.accept().await.unwrap();
    listener.secure(stream).await.map_err(|error| error.to_string())
}

/// Connects, and proves that bytes go through by sending some.
async fn meet(server: &dyn Net, client: &dyn Net, name: Option<&str>) -> Met {
    let mut listener = server.listen("127.0.0.1:0".into()).await.unwrap();
    let address = listener.local_addr().unwrap();
    let dial = async {
        let dialled = match name {
            Some(name) => client.dial_node(address, name).await,
            None => client.dial(address).await,
        };
        let mut stream = dialled.map_err(|error| error.to_string())?;
        stream.write_all(b"hello").await.map_err(|error| error.to_string())?;
        stream.flush().await.map_err(|error| error.to_string())?;
        // The server's answer: in TLS 1.3 a client hears of a refusal only when it reads.
        let mut answer = [0; 5];
        stream.read_exact(&mut answer).await.map_err(|error| error.to_string())?;
        Ok(stream.caller().unwrap().clone())
    };
    let serve = async {
        let mut stream = accept(listener.as_mut()).await?;
        let mut heard = [0; 5];
        stream.read_exact(&mut heard).await.map_err(|error| error.to_string())?;
        stream.write_all(&heard).await.map_err(|error| error.to_string())?;
        stream.flush().await.map_err(|error| error.to_string())?;
        Ok(stream.caller().unwrap().clone())
    };
    tokio::join!(serve, dial)
}

fn caller(role: Role, name: &str) -> Caller {
    Caller { role, name: name.into() }
}

#[tokio::test]
async fn both_ends_know_who_is_at_the_other() {
    let ca = Authority::new("one");
    let (server, _kept) = tls(&ca.certify(&[NODE_A]), &ca.pem).unwrap();
    for (uri, role, name) in
        [(NODE_B, Role::Node, "b"), (GATEWAY, Role::Gateway, "edge"), (OPERATOR, Role::Operator, "ops")]
    {
        let (client, _kept) = tls(&ca.certify(&[uri]), &ca.pem).unwrap();
        let met = meet(server.as_ref(), client.as_ref(), None).await;
        assert_eq!(met, (Ok(caller(role, name)), Ok(caller(Role::Node, "a"))));
    }
}

#[tokio::test]
async fn nobody_gets_through_who_is_not_of_the_cluster() {
    let (ca, other) = (Authority::new("one"), Authority::new("two"));
    let (server, _kept) = tls(&ca.certify(&[NODE_A]), &ca.pem).unwrap();
    let both = format!("{}{}", ca.pem, other.pem);
    let server_auth_only = |params: &mut rcgen::CertificateParams| {
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    };
    // Each of them is content with itself, and believes our server.
    for (who, certified, trust) in [
        ("another authority", other.certify(&[GATEWAY]), &both),
        ("another trust domain", ca.certify(&["spiffe://kindred/u/gateway/edge"]), &ca.pem),
    ] {
        let (client, _kept) = tls(&certified, trust).unwrap();
        let (served, dialled) = meet(server.as_ref(), client.as_ref(), None).await;
        assert!(served.is_err() && dialled.is_err(), "{who}: {served:?} {dialled:?}");
    }
    // These are refused before they are even used.
    for (who, certified) in [
        ("no identity", ca.certify(&[])),
        ("two identities", ca.certify(&[NODE_A, GATEWAY])),
        ("an unknown role", ca.certify(&["spiffe://kindred/t/root/a"])),
        ("expired", ca.certify_with(&[GATEWAY], |p| p.not_after = rcgen::date_time_ymd(2020, 1, 1))),
        ("not yet", ca.certify_with(&[GATEWAY], |p| p.not_before = rcgen::date_time_ymd(2999, 1, 1))),
        ("no client", ca.certify_with(&[GATEWAY], server_auth_only)),
        ("no authority of ours", other.certify(&[GATEWAY])),
    ] {
        assert!(tls(&certified, &ca.pem).is_err(), "{who}");
    }
}

#[tokio::test]
async fn who_dials_takes_nodes_only_and_where_it_means_one_only_that_one() {
    let ca = Authority::new("one");
    let (client, _kept) = tls(&ca.certify(&[NODE_B]), &ca.pem).unwrap();
    let (node, _kept) = tls(&ca.certify(&[NODE_A]), &ca.pem).unwrap();
    let (imposter, _kept) = tls(&ca.certify(&[GATEWAY]), &ca.pem).unwrap();
    assert!(meet(node.as_ref(), client.as_ref(), Some("a")).await.1.is_ok());
    let told = meet(node.as_ref(), client.as_ref(), Some("c")).await.1.unwrap_err();
    assert!(told.contains("is spiffe://kindred/t/node/a"), "{told}");
    let (served, dialled) = meet(imposter.as_ref(), client.as_ref(), None).await;
    assert!(served.is_err() && dialled.is_err(), "{served:?} {dialled:?}");
}

#[tokio::test]
async fn whoever_has_no_certificate_or_no_tls_is_refused() {
    let ca = Authority::new("one");
    let (server, place) = tls(&ca.certify(&[NODE_A]), &ca.pem).unwrap();
    let mut listener = server.listen("127.0.0.1:0".into()).await.unwrap();
    let address = listener.local_addr().unwrap();
    // Plain HTTP/2.
    let mut plain = Tcp.dial(address.clone()).await.unwrap();
    plain.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    assert!(accept(listener.as_mut()).await.is_err());
    // TLS, but nameless.
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = rustls::RootCertStore::empty();
    for certificate in rustls::pki_types::pem::PemObject::pem_file_iter(place.path().join("trust")).unwrap() {
        roots.add(certificate.unwrap()).unwrap();
    }
    let verifier = rustls::client::WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone());
    let nameless = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_webpki_verifier(verifier.build().unwrap())
        .with_no_client_auth();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(nameless));
    let dial = async {
        let stream = Tcp.dial(address).await.unwrap();
        let _ = connector.connect("localhost".try_into().unwrap(), stream).await;
    };
    let (served, ()) = tokio::join!(accept(listener.as_mut()), dial);
    assert!(served.is_err());
}

#[tokio::test]
async fn a_new_authority_takes_over_while_old_connections_live_on() {
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let both = format!("{}{}", old.pem, new.pem);
    let (server, server_files) = tls(&old.certify(&[NODE_A]), &old.pem).unwrap();
    let (client, client_files) = tls(&old.certify(&[GATEWAY]), &old.pem).unwrap();
    let mut listener = server.listen("127.0.0.1:0".into()).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (near, far) = tokio::join!(client.dial(address.clone()), accept(listener.as_mut()));
    let (mut near, mut far) = (near.unwrap(), far.unwrap());
    assert_eq!(server.reload().unwrap(), Reloaded::Unchanged);

    // First everybody believes both authorities, then they show the new one's certificates, then only that one is believed.
    let latecomer = tls(&old.certify(&[OPERATOR]), &both).unwrap();
    let (newer_server, newer_client) = (new.certify(&[NODE_A]), new.certify(&[GATEWAY]));
    for (files, party, certified) in [(&server_files, &server, &newer_server), (&client_files, &client, &newer_client)]
    {
        let trusted = std::fs::read_to_string(files.files().certificate).unwrap();
        let before = Certified { pem: trusted, key: std::fs::read_to_string(files.files().key).unwrap() };
        files.write(&before, &both);
        assert_eq!(party.reload().unwrap(), Reloaded::Taken);
        files.write(certified, &both);
        assert_eq!(party.reload().unwrap(), Reloaded::Taken);
    }
    for (files, party, certified) in [(&server_files, &server, &newer_server), (&client_files, &client, &newer_client)]
    {
        files.write(certified, &new.pem);
        assert_eq!(party.reload().unwrap(), Reloaded::Taken);
    }

    let (again, accepted) = tokio::join!(client.dial(address.clone()), accept(listener.as_mut()));
    assert!(again.is_ok() && accepted.is_ok(), "{:?}", again.err());
    // The old authority is nobody now, although the latecomer itself would take us.
    let (refused, _) = tokio::join!(accept(listener.as_mut()), async {
        let mut stream = latecomer.0.dial(address).await?;
        stream.read_u8().await
    });
    assert!(refused.is_err());
    // What was open goes on.
    near.write_all(b"still").await.unwrap();
    near.flush().await.unwrap();
    let mut heard = [0; 5];
    far.read_exact(&mut heard).await.unwrap();
    assert_eq!(&heard, b"still");
}

#[tokio::test]
async fn files_that_do_not_fit_are_refused_and_the_old_ones_go_on() {
    let (ca, other) = (Authority::new("one"), Authority::new("two"));
    let first = ca.certify(&[NODE_A]);
    let (server, files) = tls(&first, &ca.pem).unwrap();
    let (client, _kept) = tls(&ca.certify(&[GATEWAY]), &ca.pem).unwrap();
    let another = ca.certify(&[NODE_A]);
    let half = Certified { pem: another.pem.clone(), key: first.key.clone() };
    for (what, certified, trust) in [
        ("half replaced", &half, ca.pem.as_str()),
        ("another node", &ca.certify(&[NODE_B]), &ca.pem),
        ("not believed by its own bundle", &other.certify(&[NODE_A]), &ca.pem),
        ("no PEM", &Certified { pem: "x".into(), key: "y".into() }, &ca.pem),
        ("no trust", &first, ""),
    ] {
        files.write(certified, trust);
        assert!(server.reload().is_err(), "{what}");
        assert!(meet(server.as_ref(), client.as_ref(), Some("a")).await.0.is_ok(), "{what}");
    }
    files.write(&another, &ca.pem);
    assert_eq!(server.reload().unwrap(), Reloaded::Taken);
    assert!(meet(server.as_ref(), client.as_ref(), Some("a")).await.0.is_ok());
}

#[tokio::test]
async fn no_error_shows_a_key() {
    let ca = Authority::new("one");
    let certified = ca.certify(&[NODE_A]);
    let secret = certified.key.lines().nth(1).unwrap().to_owned();
    let swapped = Certified { pem: certified.key.clone(), key: certified.pem.clone() };
    let other = Certified { pem: ca.certify(&[NODE_A]).pem, key: certified.key.clone() };
    for bad in [swapped, other] {
        let error = tls(&bad, &ca.pem).err().unwrap();
        let told = format!("{error} {error:?}");
        assert!(!told.contains(&secret), "{told}");
    }
}
