//! Validations alone, and mixed with links and lists.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use bytes::Bytes;
use kindred_wire::convert::raw;
use kindred_wire::pb::session::v1 as session;
use kindred_wire::pb::session::v1::validate_reply::Verdict;
use prost::Message as _;

use super::args::Mix;
use super::drive::{Answer, Pace, Span, drive};
use super::lab::{Lab, Measured, busy};
use super::link::{Approval, encoded};
use super::load::name_of;
use super::prepare::{Live, Opened};
use super::raw::unary;
use super::schedule::Keys;

const VALIDATE: &str = "/kindred.session.v1.Session/Validate";
const LIST: &str = "/kindred.session.v1.Session/ListSessions";

/// Which keys are asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Popularity {
    /// Zipf exponent; 0 = all equal.
    pub(super) zipf: f64,
    pub(super) seed: u64,
}

/// An encoded question about one session.
struct Question {
    home: usize,
    validate: Bytes,
    list: Bytes,
}

/// One of the mixed calls.
enum Call<'a> {
    Validate(&'a Question),
    List(&'a Question),
    Link(&'a Approval),
}

impl Lab<'_> {
    /// Validates live sessions, each through the node of its account's home region.
    pub(super) async fn validations(
        &self,
        level: session::Level,
        span: Duration,
        pace: &Pace,
        popularity: Popularity,
    ) -> anyhow::Result<Measured> {
        let questions = self.questions(level);
        let keys = RefCell::new(Keys::new(questions.len(), popularity.zipf, popularity.seed)?);
        let bar = busy(&format!("validations, {}", level.as_str_name()));
        let next = || questions.get(keys.borrow_mut().pick());
        let call = async |worker: usize, item: &Question| self.validate(worker, item).await;
        let measured = self.measure(drive(pace, Span::Time(span), next, call)).await?;
        bar.finish_and_clear();
        Ok(measured)
    }

    /// Validations, links and lists by chance, in these parts. Ends early if it runs out of prepared links.
    pub(super) async fn mixed(
        &self,
        mix: Mix,
        span: Duration,
        pace: &Pace,
        popularity: Popularity,
    ) -> anyhow::Result<Measured> {
        let ready: Vec<_> = match mix.link {
            0 => Vec::new(),
            _ => self.prepared(Opened::AtHome, self.round).await?.into_iter().map(encoded).collect(),
        };
        let questions = self.questions(session::Level::Linearizable);
        let keys = RefCell::new(Keys::new(questions.len(), popularity.zipf, popularity.seed)?);
        let bar = busy("mixed calls");
        let at = Cell::new(0);
        let next = || {
            let mut keys = keys.borrow_mut();
            let chance = keys.percent();
            if (mix.validate..mix.validate + mix.link).contains(&chance) {
                return ready.get(at.replace(at.get() + 1)).map(Call::Link);
            }
            let question = questions.get(keys.pick())?;
            Some(if chance < mix.validate { Call::Validate(question) } else { Call::List(question) })
        };
        let call = async |worker: usize, item: Call<'_>| match item {
            Call::Validate(question) => self.validate(worker, question).await.map(|_| Some("validate")),
            Call::List(question) => self.list(worker, question).await.map(|_| Some("list")),
            Call::Link(approval) => self.approve(worker, approval).await.map(|_| Some("link")),
        };
        let measured = self.measure(drive(pace, Span::Time(span), next, call)).await?;
        bar.finish_and_clear();
        Ok(measured)
    }

    async fn validate(&self, worker: usize, question: &Question) -> Answer {
        let channel = self.channel(worker, question.home);
        let reply: session::ValidateReply =
            unary(channel, VALIDATE, question.validate.clone()).await.map_err(|status| name_of(&status))?;
        match reply.verdict {
            Some(Verdict::Valid(_)) => Ok(None),
            Some(Verdict::Undetermined(doubt)) => Err(format!("UNDETERMINED {}", doubt.reason().as_str_name())),
            _ => Err("wrong verdict".to_owned()),
        }
    }

    async fn list(&self, worker: usize, question: &Question) -> Answer {
        let channel = self.channel(worker, question.home);
        let reply: session::ListSessionsReply =
            unary(channel, LIST, question.list.clone()).await.map_err(|status| name_of(&status))?;
        if reply.sessions.is_empty() { Err("empty list".to_owned()) } else { Ok(None) }
    }

    fn questions(&self, level: session::Level) -> Vec<Question> {
        let question = |live: &Live| {
            let (account, home_region) = (raw(live.account.as_bytes()), self.workshop.regions[live.home].clone());
            let validate = session::ValidateRequest {
                account: account.clone(),
                session: raw(live.session.as_bytes()),
                level: level.into(),
                home_region: home_region.clone(),
                ..session::ValidateRequest::default()
            };
            let list = session::ListSessionsRequest { account, home_region };
            Question { home: live.home, validate: validate.encode_to_vec().into(), list: list.encode_to_vec().into() }
        };
        self.live.borrow().iter().map(question).collect()
    }
}
