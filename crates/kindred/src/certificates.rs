//! A certificate authority for development and tests: one directory with the authority, a certificate for every node, one
//! for a gateway and one for an operator. Production brings its own certificates; nothing here is needed there.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use kindred_core::env::Env;
use kindred_wire::caller::Role;
use kindred_wire::tls::{Files, Identity};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use time::{Duration, OffsetDateTime};

/// Trust domain of a local cluster.
pub const TRUST_DOMAIN: &str = "dev";
const AUTHORITY: &str = "ca";
const AUTHORITY_DAYS: i64 = 3_650;
const CERTIFICATE_DAYS: i64 = 365;

/// The files of one holder in such a directory: of a node by its name, else of `gateway` or `operator`.
pub fn files(dir: &Path, holder: &str) -> Files {
    Files { certificate: pem(dir, holder), key: key(dir, holder), trust: pem(dir, AUTHORITY) }
}

fn pem(dir: &Path, holder: &str) -> PathBuf {
    dir.join(format!("{holder}.pem"))
}

fn key(dir: &Path, holder: &str) -> PathBuf {
    dir.join(format!("{holder}.key"))
}

/// `kindred certificates`.
#[derive(clap::Args)]
pub struct Args {
    /// Directory to write to; an authority that is there is used again, certificates are made anew.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Names of the nodes.
    #[arg(long, value_delimiter = ',', required = true)]
    nodes: Vec<String>,
    /// Trust domain of the identities.
    #[arg(long, default_value = TRUST_DOMAIN)]
    trust_domain: String,
}

/// Runs `kindred certificates`.
pub fn run(args: &Args) -> anyhow::Result<()> {
    make(&args.out, &args.trust_domain, &args.nodes, &crate::env::real())?;
    println!("{}: an authority, and certificates for {}, gateway, operator", args.out.display(), args.nodes.join(", "));
    println!("For development and tests: the authority's key lies beside them.");
    Ok(())
}

/// Makes what is missing of the authority, and everybody's certificates anew.
pub fn make(dir: &Path, trust_domain: &str, nodes: &[String], env: &Env) -> anyhow::Result<()> {
    if let Some(name) = nodes.iter().find(|name| [AUTHORITY, "gateway", "operator"].contains(&name.as_str())) {
        bail!("a node cannot be called `{name}` here: that is the name of another certificate");
    }
    std::fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
    let now = i64::try_from(env.clock.wall_ms() / 1_000)?;
    let now = OffsetDateTime::from_unix_timestamp(now)?;
    let issuer = authority(dir, now)?;
    let nodes = nodes.iter().map(|name| (Role::Node, name.as_str()));
    for (role, name) in nodes.chain([(Role::Gateway, "gateway"), (Role::Operator, "operator")]) {
        let identity = Identity::new(trust_domain, role, name);
        let identity = identity.with_context(|| format!("`{trust_domain}` or `{name}` is no name"))?;
        issue(dir, &identity, &issuer, now)?;
    }
    Ok(())
}

fn authority(dir: &Path, now: OffsetDateTime) -> anyhow::Result<Issuer<'static, KeyPair>> {
    let mut params = CertificateParams::default();
    params.distinguished_name = name("Kindred development authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    (params.not_before, params.not_after) = (now - Duration::days(1), now + Duration::days(AUTHORITY_DAYS));
    let path = key(dir, AUTHORITY);
    if path.exists() && pem(dir, AUTHORITY).exists() {
        // Name and key make an issuer, and both are the same as when its certificate was made.
        let pair = KeyPair::from_pem(&std::fs::read_to_string(&path)?).with_context(|| path.display().to_string())?;
        return Ok(Issuer::new(params, pair));
    }
    let pair = KeyPair::generate()?;
    replace(&path, &pair.serialize_pem(), 0o600)?;
    replace(&pem(dir, AUTHORITY), &params.self_signed(&pair)?.pem(), 0o644)?;
    Ok(Issuer::new(params, pair))
}

fn issue(
    dir: &Path,
    identity: &Identity,
    issuer: &Issuer<'static, KeyPair>,
    now: OffsetDateTime,
) -> anyhow::Result<()> {
    let mut params = CertificateParams::default();
    params.distinguished_name = name(&identity.name);
    params.subject_alt_names = vec![SanType::URI(identity.to_string().try_into()?)];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    if identity.role == Role::Node {
        params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
        // Kindred itself knows nodes by their identity; other gRPC clients look for the host that they dialled.
        params.subject_alt_names.push(SanType::DnsName("localhost".to_owned().try_into()?));
        params.subject_alt_names.push(SanType::IpAddress([127, 0, 0, 1].into()));
        params.subject_alt_names.push(SanType::IpAddress(std::net::Ipv6Addr::LOCALHOST.into()));
    }
    (params.not_before, params.not_after) = (now - Duration::days(1), now + Duration::days(CERTIFICATE_DAYS));
    let pair = KeyPair::generate()?;
    let certificate = params.signed_by(&pair, issuer)?;
    replace(&key(dir, &identity.name), &pair.serialize_pem(), 0o600)?;
    replace(&pem(dir, &identity.name), &certificate.pem(), 0o644)
}

fn name(common: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::OrganizationName, "Kindred");
    name.push(DnType::CommonName, common);
    name
}

/// Writes a file in one step; nobody reads half of it.
fn replace(path: &Path, text: &str, mode: u32) -> anyhow::Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::PermissionsExt as _;
    let dir = path.parent().context("a file lies in a directory")?;
    let mut file = tempfile::Builder::new().permissions(std::fs::Permissions::from_mode(mode)).tempfile_in(dir)?;
    file.write_all(text.as_bytes())?;
    file.persist(path).with_context(|| path.display().to_string())?;
    Ok(())
}
