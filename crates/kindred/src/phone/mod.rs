//! `kindred phone`: the device that owns an account.

mod code;
pub mod life;
mod reconcile;
mod show;
mod view;
mod watch;

use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::path::PathBuf;

use kindred_client::{Approve, Client, Member, Qr};
use kindred_core::id::{DeviceKey, SessionId, TicketId, unhex};
use kindred_wire::convert::raw;
use kindred_wire::pb::pairing::v1::ScanTicketReply;
use kindred_wire::pb::session::v1::why_signed_out_request::Which;
use kindred_wire::reason::Reason;

use self::code::Typed;
use crate::connect::{self, Nodes, failed, is_final};
use crate::keys::{KeyFile, account_id, session_id};
use crate::output::{Exit, Output, exit};

/// Flags of `phone`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    nodes: Nodes,
    /// Key file of this phone; `register` makes it.
    #[arg(long, value_name = "FILE", default_value = "phone.json", global = true)]
    keys: PathBuf,
    /// What this phone knows of its account's sessions, to notice a cluster that forgets; beside the key file if not given.
    #[arg(long, value_name = "FILE", global = true)]
    view: Option<PathBuf>,
    /// How to print.
    #[arg(long, value_enum, default_value_t, global = true)]
    output: Output,
    #[command(subcommand)]
    act: Act,
}

#[derive(Debug, clap::Subcommand)]
enum Act {
    /// Make an account, with this phone as its primary.
    Register {
        /// Id of the account: text, or 0x and hex.
        account: String,
        /// Home region; the answering node's if not given.
        #[arg(long, default_value = "")]
        home: String,
        /// Name of this phone; the key file's name if not given.
        #[arg(long)]
        name: Option<String>,
    },
    /// Scan a QR code or type a code, look at who asks, approve.
    Pair {
        /// The text of the QR code.
        #[arg(required_unless_present = "code")]
        qr: Option<String>,
        /// The code on the companion's screen, instead of a QR code.
        #[arg(long, value_name = "XXXX-XXXX", conflicts_with = "qr")]
        code: Option<String>,
        /// The number on the companion's screen, for --yes with --code.
        #[arg(long, value_name = "NNNN", requires = "code")]
        number: Option<String>,
        /// Approve without asking.
        #[arg(long)]
        yes: bool,
        /// End this session in the same step; the new one takes its place.
        #[arg(long, value_name = "SESSION")]
        replacing: Option<String>,
    },
    /// Scan a QR code or type a code, and look at who asks.
    Scan {
        /// The text of the QR code.
        #[arg(required_unless_present = "code")]
        qr: Option<String>,
        /// The code on the companion's screen, instead of a QR code.
        #[arg(long, value_name = "XXXX-XXXX", conflicts_with = "qr")]
        code: Option<String>,
    },
    /// Approve what was scanned.
    Approve {
        /// The text of the QR code that was scanned.
        #[arg(required_unless_present = "code")]
        qr: Option<String>,
        /// The code that was typed, instead of a QR code.
        #[arg(long, value_name = "XXXX-XXXX", conflicts_with = "qr", requires = "number")]
        code: Option<String>,
        /// The number on the companion's screen.
        #[arg(long, value_name = "NNNN", requires = "code")]
        number: Option<String>,
        /// End this session in the same step; the new one takes its place.
        #[arg(long, value_name = "SESSION")]
        replacing: Option<String>,
    },
    /// Deny what was scanned.
    Deny {
        /// The text of the QR code that was scanned, or the ticket's id.
        ticket: String,
    },
    /// Tell what happens to the account, requests to be linked by code included, until Ctrl-C.
    Watch,
    /// All live sessions of the account, checked against what this phone knows.
    List,
    /// Compare what this phone knows with the cluster: IN_SYNC, BEHIND or DIVERGED. Changes nothing in the cluster.
    Reconcile {
        /// Send the sessions as a list that this phone signs; one that lacks a live session is refused.
        #[arg(long)]
        list: bool,
        /// Where it has diverged, take over what the cluster says.
        #[arg(long)]
        adopt: bool,
    },
    /// End one session, by name.
    Unlink {
        /// The session, as `list` prints it.
        session: String,
    },
    /// End all sessions but this phone's.
    UnlinkOthers,
    /// Change how many companions the account may have.
    Limit {
        /// 1 to 64. Ends nobody if there are more.
        limit: u32,
    },
    /// Pin a companion: no sibling can end it, only itself, this phone or an operator.
    Pin {
        /// The session, as `list` prints it.
        session: String,
    },
    /// Let a pinned companion go.
    Unpin {
        /// The session, as `list` prints it.
        session: String,
    },
    /// Give this phone another key. The old one proves nothing from then on; nothing is unlinked.
    RotateKey,
    /// Put another phone in this one's place.
    Replace {
        /// Key file of the new phone; made if it is not there.
        #[arg(value_name = "FILE")]
        new_keys: PathBuf,
        /// What becomes of the companions. There is no default.
        #[arg(long, value_enum)]
        companions: life::Companions,
        /// Name of the new phone; its key file's name if not given.
        #[arg(long)]
        name: Option<String>,
    },
    /// Delete the account, for good: all sessions end, and the id is never free again.
    Delete {
        /// Do not ask.
        #[arg(long)]
        yes: bool,
    },
    /// How and why a session ended.
    Why {
        /// The session, as `list` printed it.
        session: String,
    },
}

/// Does one thing.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let client = args.nodes.client()?;
    let output = args.output;
    if let Act::Register { account, home, name } = &args.act {
        return register(&client, &args, account, home, name.as_deref()).await;
    }
    let mut phone = Phone::open(client, &args).await?;
    match args.act {
        Act::Register { .. } => Ok(()),
        Act::Pair { code: Some(code), number, yes, replacing, .. } => {
            phone.pair_code(&Typed::parse(&code, number.as_deref())?, yes, victim(replacing)?).await
        }
        Act::Pair { qr, yes, replacing, .. } => {
            phone.pair(&parse_qr(&qr.unwrap_or_default())?, yes, victim(replacing)?).await
        }
        Act::Scan { code: Some(code), .. } => phone.scan_code(&Typed::parse(&code, None)?).await,
        Act::Scan { qr, .. } => {
            let qr = qr.unwrap_or_default();
            let reply = phone.scan(&parse_qr(&qr)?).await?;
            show::scanned(&phone.member, &reply, output)?;
            if output == Output::Table {
                println!("Approve it: kindred phone --keys {} approve '{qr}'", phone.file.path().display());
            }
            Ok(())
        }
        Act::Approve { code: Some(code), number, replacing, .. } => {
            phone.approve_code(&Typed::parse(&code, number.as_deref())?, victim(replacing)?).await
        }
        Act::Approve { qr, replacing, .. } => {
            phone.approve(&parse_qr(&qr.unwrap_or_default())?, victim(replacing)?).await
        }
        Act::Watch => phone.watch().await,
        Act::Deny { ticket } => phone.deny(&ticket_of(&ticket)?).await,
        Act::List => phone.list().await,
        Act::Reconcile { list, adopt } => phone.reconcile(list, adopt).await,
        Act::Unlink { session } => phone.unlink(&usage(session_id(&session))?).await,
        Act::UnlinkOthers => phone.unlink_others().await,
        Act::Limit { limit } => phone.limit(limit).await,
        Act::Pin { session } => phone.pin(&usage(session_id(&session))?, true).await,
        Act::Unpin { session } => phone.pin(&usage(session_id(&session))?, false).await,
        Act::RotateKey => phone.rotate().await,
        Act::Replace { new_keys, companions, name } => phone.replace(&new_keys, companions, name.as_deref()).await,
        Act::Delete { yes } => phone.delete(yes).await,
        Act::Why { session } => phone.why(&usage(session_id(&session))?).await,
    }
}

async fn register(client: &Client, args: &Args, account: &str, home: &str, name: Option<&str>) -> anyhow::Result<()> {
    let id = usage(account_id(account))?;
    let mut file = KeyFile::open_or_create(&args.keys)?;
    if let (Some(known), Some(session)) = (&file.account, &file.session) {
        return Err(Exit::error(
            exit::USAGE,
            format!(
                "{} is the phone of account {known} already (session {session}); another account needs another --keys",
                args.keys.display()
            ),
        ));
    }
    let device = connect::device(client, &mut file).await?;
    let about = connect::about("phone", name, &args.keys);
    let doing = format!("register {account}");
    let act = format!("{doing} as {}", String::from_utf8_lossy(&about.display_name));
    let request = file.begin(&act)?;
    let result = client.register(&device, &id, &about, home, request).await;
    let (member, reply) = settle(&mut file, &doing, result)?;
    (file.account, file.session) = (Some(id.to_string()), Some(member.session.to_string()));
    file.save()?;
    show::registered(&member, &reply, &args.keys, args.output)
}

struct Phone {
    client: Client,
    file: KeyFile,
    member: Member,
    output: Output,
    view: PathBuf,
}

impl Phone {
    /// The phone of the key file, with the account's present epoch and home.
    async fn open(client: Client, args: &Args) -> anyhow::Result<Self> {
        let mut file = KeyFile::open(&args.keys).map_err(|error| Exit::error(exit::USAGE, format!("{error:#}")))?;
        let (account, session) = (usage(file.account())?, usage(file.session())?);
        let device = connect::device(&client, &mut file).await?;
        let (auth_epoch, home_region) = match client.account(&account, "").await {
            Ok(found) => (found.auth_epoch, found.home_region),
            // Deleted, perhaps: what became of its sessions, and of the deletion itself, is told all the same.
            Err(error) if error.reason() == Some(Reason::AccountNotFound) => (0, String::new()),
            Err(error) => return Err(failed("ask for the account", &error)),
        };
        let member = Member { device, account, session, auth_epoch, home_region };
        let view = args.view.clone().unwrap_or_else(|| args.keys.with_extension("view.json"));
        Ok(Self { client, file, member, output: args.output, view })
    }

    async fn pair(&mut self, qr: &Qr, yes: bool, replacing: Option<SessionId>) -> anyhow::Result<()> {
        let reply = self.scan(qr).await?;
        match self.output {
            Output::Table => print!("{}", show::question(&self.member, &reply)),
            // For a person; a program reads only what came of it.
            Output::Json if !yes => eprint!("{}", show::question(&self.member, &reply)),
            Output::Json => {}
        }
        if !yes && !ask("Link it?")? {
            let ticket = ticket_in(&reply)?;
            return self.deny(&ticket).await;
        }
        self.approve(qr, replacing).await
    }

    async fn scan(&mut self, qr: &Qr) -> anyhow::Result<ScanTicketReply> {
        let request = self.file.begin(&format!("scan {}", kindred_core::id::hex(&qr.reference)))?;
        let result = self.client.scan(&mut self.member, &qr.reference, request).await;
        let reply = settle(&mut self.file, "scan", result)?;
        if DeviceKey::from_slice(&reply.device_key) != Some(qr.device_key) {
            return Err(Exit::error(
                exit::REFUSED,
                "scan: the cluster knows this ticket under another device key than the QR code shows; do not approve it",
            ));
        }
        Ok(reply)
    }

    async fn approve(&mut self, qr: &Qr, replaces: Option<SessionId>) -> anyhow::Result<()> {
        let ticket = usage(qr.ticket().ok_or_else(|| anyhow::anyhow!("the QR code names no ticket")))?;
        let what = Approve { ticket, device_key: qr.device_key, replaces, envelope: Vec::new() };
        let victim = replaces.map_or_else(String::new, |session| format!(" replacing {session}"));
        let request = self.file.begin(&format!("approve {ticket}{victim}"))?;
        let result = self.client.approve(&self.member, &what, request).await;
        let receipt = settle(&mut self.file, "approve", result)?;
        show::linked(&self.member, &receipt, replaces, self.output)
    }

    async fn deny(&mut self, ticket: &TicketId) -> anyhow::Result<()> {
        let request = self.file.begin(&format!("deny {ticket}"))?;
        let result = self.client.deny(&self.member, ticket, request).await;
        settle(&mut self.file, "deny", result)?;
        show::denied(ticket, self.output)
    }

    async fn list(&self) -> anyhow::Result<()> {
        let (_, reply) = self.checked_list().await?;
        show::sessions(&self.member, &reply, self.output)
    }

    async fn unlink(&mut self, target: &SessionId) -> anyhow::Result<()> {
        let request = self.file.begin(&format!("unlink {target}"))?;
        let result = self.client.unlink(&self.member, target, request).await;
        let reply = settle(&mut self.file, "unlink", result)?;
        show::ended(reply.tombstone.as_ref(), reply.already_ended, self.output)
    }

    async fn unlink_others(&mut self) -> anyhow::Result<()> {
        let request = self.file.begin("unlink-others")?;
        let result = self.client.unlink_others(&mut self.member, request).await;
        let reply = settle(&mut self.file, "unlink-others", result)?;
        show::ended_others(&reply, self.output)
    }

    async fn why(&self, session: &SessionId) -> anyhow::Result<()> {
        let which = Which::Session(raw(session.as_bytes()));
        let reply = self.client.why(&self.member.account, which, &self.member.home_region).await;
        show::why(&reply.map_err(|error| failed("why", &error))?, self.output)
    }
}

/// Forgets the request id once the answer is certain; until then, doing the same again asks with the same one.
fn settle<T>(file: &mut KeyFile, doing: &str, result: Result<T, kindred_client::Error>) -> anyhow::Result<T> {
    if result.as_ref().err().is_none_or(is_final) {
        file.answered()?;
    }
    result.map_err(|error| failed(doing, &error))
}

fn parse_qr(text: &str) -> anyhow::Result<Qr> {
    usage(Qr::parse(text).ok_or_else(|| {
        anyhow::anyhow!("that is not the text of a Kindred QR code; quote it, it starts with kindred://link/1?")
    }))
}

fn ticket_of(text: &str) -> anyhow::Result<TicketId> {
    let ticket = match unhex(text).and_then(|bytes| TicketId::from_slice(&bytes)) {
        Some(ticket) => Some(ticket),
        None => parse_qr(text)?.ticket(),
    };
    usage(ticket.ok_or_else(|| anyhow::anyhow!("a ticket id is 32 hex digits")))
}

fn ticket_in(reply: &ScanTicketReply) -> anyhow::Result<TicketId> {
    TicketId::from_slice(&reply.ticket).ok_or_else(|| Exit::error(exit::FAILED, "scan: the answer names no ticket"))
}

fn victim(replacing: Option<String>) -> anyhow::Result<Option<SessionId>> {
    replacing.map(|text| usage(session_id(&text))).transpose()
}

fn usage<T>(result: anyhow::Result<T>) -> anyhow::Result<T> {
    result.map_err(|error| Exit::error(exit::USAGE, format!("{error:#}")))
}

/// Asks a person. Without one, the answer must be on the command line.
fn ask(question: &str) -> anyhow::Result<bool> {
    if !std::io::stdin().is_terminal() {
        return Err(Exit::error(exit::USAGE, "nobody can be asked here; look at it with `scan`, or add --yes"));
    }
    eprint!("{question} [y/N] ");
    std::io::stderr().flush()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_is_named_by_its_id_or_by_the_text_of_its_code() {
        let id = "07".repeat(16);
        assert_eq!(ticket_of(&id).unwrap(), TicketId([7; 16]));
        let error = ticket_of("nonsense").unwrap_err();
        assert_eq!(error.downcast_ref::<Exit>().unwrap().code, exit::USAGE);
    }
}
