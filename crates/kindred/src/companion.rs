//! `kindred companion`: a device that wants to be linked.

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::time::Duration;

use kindred_client::watch::TicketWatch;
use kindred_client::{Client, Device, Patience, request_id};
use kindred_core::code::MatchNumber;
use kindred_core::id::{AccountId, SessionId, TicketId, hex};
use kindred_core::model::Requester;
use kindred_wire::pb::pairing::v1 as pb;
use kindred_wire::pb::pairing::v1::cancel_ticket_reply::Outcome as Cancelled;
use kindred_wire::pb::pairing::v1::watch_ticket_reply::Event;
use kindred_wire::pb::session::v1::ValidateRequest;
use kindred_wire::pb::session::v1::validate_reply::Verdict;
use serde_json::json;
use tokio::time::Instant;

use crate::big;
use crate::connect::{self, Nodes, failed, refused};
use crate::keys::{KeyFile, account_id};
use crate::output::{self, Exit, Output, exit, fields};
use crate::records::{describe, session_json, why};
use crate::screen::Screen;

/// Flags of `companion`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    nodes: Nodes,
    /// Key file of this device; made if it is not there.
    #[arg(long, value_name = "FILE", default_value = "companion.json")]
    keys: PathBuf,
    /// Name that the owner sees; the key file's name if not given.
    #[arg(long)]
    name: Option<String>,
    /// Coarse location that the owner sees.
    #[arg(long, default_value = "")]
    location: String,
    /// Show a code to type on the phone instead of a QR code; needs --account.
    #[arg(long, requires = "account")]
    code: bool,
    /// Id of the account to be linked to, for --code: text, or 0x and hex.
    #[arg(long, value_name = "ID", requires = "code")]
    account: Option<String>,
    /// How to print.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

/// Links this device, or tells that it is linked already.
pub async fn run(args: Args) -> anyhow::Result<()> {
    // A companion waits for a person, and shall outlast an election or a restart meanwhile.
    let patience = Patience { attempts: 60, ..Patience::default() };
    let wrong_account = |error: anyhow::Error| Exit::error(exit::USAGE, format!("--account: {error:#}"));
    let account = args.account.as_deref().map(account_id).transpose().map_err(wrong_account)?;
    let client = args.nodes.client()?;
    let mut file = KeyFile::open_or_create(&args.keys)?;
    let device = connect::device(&client, &mut file).await?;
    let mut companion = Companion { client: client.with_patience(patience), file, device, output: args.output };
    if companion.is_linked().await? {
        return Ok(());
    }
    let about = connect::about("cli", args.name.as_deref(), &args.keys);
    companion.link(Requester { device: about, location: args.location }, account).await
}

struct Companion {
    client: Client,
    file: KeyFile,
    device: Device,
    output: Output,
}

impl Companion {
    /// Shows the session if there is a live one. One that has ended is told and forgotten; a doubt ends nothing.
    async fn is_linked(&mut self) -> anyhow::Result<bool> {
        if self.file.session.is_none() {
            return Ok(false);
        }
        let (account, session) = (self.file.account()?, self.file.session()?);
        let request = ValidateRequest {
            account: kindred_wire::convert::raw(account.as_bytes()),
            session: kindred_wire::convert::raw(session.as_bytes()),
            ..ValidateRequest::default()
        };
        let reply = self.client.validate(request).await.map_err(|error| failed("validate", &error))?;
        match reply.verdict {
            Some(Verdict::Valid(valid)) => {
                self.show(&valid.session.unwrap_or_default(), None)?;
                Ok(true)
            }
            Some(Verdict::SignedOut(out)) => {
                let tombstone = out.tombstone.unwrap_or_default();
                eprintln!("signed out: {}; linking anew", why(&tombstone));
                (self.file.account, self.file.session) = (None, None);
                self.file.save()?;
                Ok(false)
            }
            Some(Verdict::Suspended(_)) => Err(Exit::error(
                exit::REFUSED,
                format!("account {account} is locked; session {session} has not ended, its credentials are kept"),
            )),
            _ => Err(Exit::error(
                exit::UNAVAILABLE,
                format!(
                    "nobody can say just now whether session {session} is live; its credentials are kept, try again"
                ),
            )),
        }
    }

    /// With an account, by a code that is typed on its phone; else by QR code.
    async fn link(&mut self, requester: Requester, account: Option<AccountId>) -> anyhow::Result<()> {
        let env = crate::env::real();
        let opened = match &account {
            Some(account) => self.client.open_code(&self.device, &requester, account, request_id(&env)).await,
            None => self.client.open(&self.device, &requester, request_id(&env)).await,
        };
        let opened = opened.map_err(|error| failed("open a ticket", &error))?;
        let ticket = TicketId::from_slice(&opened.ticket)
            .ok_or_else(|| Exit::error(exit::FAILED, "open a ticket: the answer names none"))?;
        let mut watch = self.client.watch_ticket_as(&self.device, &ticket, request_id(&env));
        let number = account.map(|_| MatchNumber::of(&self.device.key(), &ticket));
        let mut offer = Offer::new(self.output, number);
        let ended = tokio::select! {
            biased;
            _ = tokio::signal::ctrl_c() => None,
            ended = follow(&mut watch, &mut offer) => Some(ended?),
        };
        offer.clear();
        match ended {
            Some(Event::Linked(linked)) => self.linked(&linked).await,
            Some(Event::Refused(refusal)) => Err(refused("not linked", &refusal)),
            Some(_) => Err(Exit::error(exit::FAILED, "the watch ended without telling how; ask the phone with `list`")),
            None => self.cancel(&ticket).await,
        }
    }

    /// The owner may have approved at this very moment: the reply tells which came first.
    async fn cancel(&mut self, ticket: &TicketId) -> anyhow::Result<()> {
        let request = request_id(&crate::env::real());
        let reply = self.client.cancel(&self.device, ticket, request).await;
        match reply.map_err(|error| failed("cancel", &error))?.outcome {
            Some(Cancelled::Linked(linked)) => self.linked(&linked).await,
            Some(Cancelled::Refused(refusal)) => Err(refused("not linked", &refusal)),
            Some(Cancelled::Cancelled(_)) | None => Err(Exit::error(exit::FAILED, "cancelled; nothing was linked")),
        }
    }

    async fn linked(&mut self, linked: &pb::Linked) -> anyhow::Result<()> {
        let account = kindred_wire::convert::account_id(&linked.account, "account")?;
        let session = kindred_wire::convert::session_id(&linked.session, "session")?;
        (self.file.account, self.file.session) = (Some(account.to_string()), Some(session.to_string()));
        self.file.save()?;
        let reply = self.client.sessions(&account, "").await.map_err(|error| failed("list", &error))?;
        let own =
            |s: &&kindred_wire::pb::session::v1::SessionRecord| SessionId::from_slice(&s.session) == Some(session);
        match reply.sessions.iter().find(own) {
            Some(record) => self.show(record, linked.receipt.as_ref()),
            None => Err(Exit::error(
                exit::FAILED,
                format!(
                    "linked as session {session}, and it is not among the live ones: ask `kindred phone why {session}`"
                ),
            )),
        }
    }

    fn show(
        &self,
        session: &kindred_wire::pb::session::v1::SessionRecord,
        receipt: Option<&pb::Receipt>,
    ) -> anyhow::Result<()> {
        let account = self.file.account.clone().unwrap_or_default();
        if self.output == Output::Json {
            return output::json(&json!({ "event": "linked", "account": account, "session": session_json(session) }));
        }
        let mut rows = vec![
            ("linked to", account),
            ("session", hex(&session.session)),
            ("seq", session.seq.to_string()),
            ("device", describe(&session.device.clone().unwrap_or_default())),
            ("since", output::wall(session.linked_wall_ms)),
            ("keys", self.file.path().display().to_string()),
        ];
        if let Some(receipt) = receipt {
            let kept = receipt.sessions_before.iter().filter(|id| receipt.sessions_after.contains(id)).count();
            let replaced = receipt.sessions_before.len() - kept;
            let note = if replaced > 0 { " (the owner named the other to be replaced)" } else { "" };
            rows.insert(3, ("siblings kept", format!("{kept} of {}{note}", receipt.sessions_before.len())));
        }
        print!("{}", fields(&rows));
        Ok(())
    }
}

/// Follows the ticket to its terminal event.
async fn follow(watch: &mut TicketWatch, offer: &mut Offer) -> anyhow::Result<Event> {
    loop {
        let next = watch.next();
        tokio::pin!(next);
        let reply = loop {
            tokio::select! {
                biased;
                reply = &mut next => break reply,
                () = tokio::time::sleep(Duration::from_secs(1)), if offer.screen.is_some() => offer.tick(),
            }
        };
        let reply = reply.map_err(|error| failed("watch the ticket", &error))?;
        let Some(reply) = reply else {
            return Err(Exit::error(exit::UNAVAILABLE, "the watch ended early; run the same again"));
        };
        let Some(event) = reply.event else { continue };
        match &event {
            Event::Offered(offered) => offer.show(offered, reply.ticket_ttl_ms)?,
            Event::Scanned(_) => offer.scanned()?,
            Event::Contested(_) => offer.tell("contested", CONTESTED)?,
            Event::Approved(_) => offer.tell("approved", "approved; linking")?,
            Event::Linked(_) | Event::Refused(_) => return Ok(event),
        }
    }
}

const CONTESTED: &str = "two accounts have scanned this; if the first was not yours, Ctrl-C and open a new one";

/// What the companion shows while it waits.
struct Offer {
    output: Output,
    // With a code: what the phone must show as well.
    number: Option<MatchNumber>,
    screen: Option<Screen>,
    status: String,
    ends: Instant,
    rotates: Option<Instant>,
}

impl Offer {
    fn new(output: Output, number: Option<MatchNumber>) -> Self {
        let is_drawn = output == Output::Table && std::io::stdout().is_terminal();
        let screen = is_drawn.then(Screen::new);
        Self { output, number, screen, status: "waiting for a scan".into(), ends: Instant::now(), rotates: None }
    }

    fn show_code(&mut self, code: &str, ticket_ttl_ms: u64) -> anyhow::Result<()> {
        "waiting for the code to be typed".clone_into(&mut self.status);
        match self.output {
            Output::Json => output::json(&json!({ "event": "offered", "code": code, "ticket_ttl_ms": ticket_ttl_ms })),
            Output::Table if self.screen.is_some() => {
                let hint = format!("Type this on the phone: kindred phone pair --code {code}");
                let block = format!("{hint}\n\n{}\n{}\n", big::draw(code), self.line());
                if let Some(screen) = &mut self.screen {
                    screen.draw(&block);
                }
                Ok(())
            }
            Output::Table => {
                println!("{code}");
                Ok(())
            }
        }
    }

    /// A phone has it. With a code, now both screens show the number.
    fn scanned(&mut self) -> anyhow::Result<()> {
        let Some(number) = self.number else {
            return self.tell("scanned", "scanned; waiting for the owner to approve");
        };
        if self.output == Output::Json {
            return output::json(&json!({ "event": "scanned", "number": number.to_string() }));
        }
        self.tell("scanned", &format!("the phone must show {number}, too; waiting for the owner to approve"))?;
        let line = self.line();
        if let Some(screen) = &mut self.screen {
            screen.draw(&format!(
                "The phone must show this number, too:\n\n{}\n{line}\n",
                big::draw(&number.to_string())
            ));
        }
        Ok(())
    }

    fn show(&mut self, offered: &pb::Offered, ticket_ttl_ms: u64) -> anyhow::Result<()> {
        self.ends = Instant::now() + Duration::from_millis(ticket_ttl_ms);
        if !offered.code.is_empty() {
            return self.show_code(&offered.code, ticket_ttl_ms);
        }
        self.rotates = Some(Instant::now() + Duration::from_millis(offered.reference_ttl_ms));
        let text = &offered.qr_payload;
        match (&mut self.screen, self.output) {
            (_, Output::Json) => output::json(&json!({
                "event": "offered",
                "qr": text,
                "reference_ttl_ms": offered.reference_ttl_ms,
                "ticket_ttl_ms": ticket_ttl_ms,
            })),
            (None, Output::Table) => {
                println!("{text}");
                Ok(())
            }
            (Some(_), Output::Table) => {
                let code = crate::qr::draw_in_colour(text)?;
                let block = format!("Scan this, or on the phone: kindred phone pair '{text}'\n{code}{}\n", self.line());
                if let Some(screen) = &mut self.screen {
                    screen.draw(&block);
                }
                Ok(())
            }
        }
    }

    fn tell(&mut self, event: &str, status: &str) -> anyhow::Result<()> {
        status.clone_into(&mut self.status);
        self.rotates = None;
        match self.output {
            Output::Json => output::json(&json!({ "event": event }))?,
            Output::Table if self.screen.is_some() => {
                // A code that was scanned is spent: it leaves the screen.
                let line = self.line();
                if let Some(screen) = &mut self.screen {
                    screen.draw(&format!("{line}\n"));
                }
            }
            Output::Table => eprintln!("{status}"),
        }
        Ok(())
    }

    fn tick(&mut self) {
        let line = self.line();
        if let Some(screen) = &mut self.screen {
            screen.replace_last(&line);
        }
    }

    fn clear(&mut self) {
        if let Some(screen) = &mut self.screen {
            screen.clear();
        }
    }

    fn line(&self) -> String {
        let left = |until: Instant| until.saturating_duration_since(Instant::now()).as_secs();
        let code = self.rotates.map_or_else(String::new, |at| format!(" · new code in {} s", left(at)));
        format!("{} · {} s left{code} · Ctrl-C cancels", self.status, left(self.ends))
    }
}
