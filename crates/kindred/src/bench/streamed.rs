//! Validations in messages of many questions, on streams.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use bytes::Bytes;
use kindred_wire::convert::raw;
use kindred_wire::pb::session::v1 as session;
use kindred_wire::pb::session::v1::validate_reply::Verdict;
use prost::Message as _;
use tokio::sync::Mutex;

use super::drive::{Answer, Pace, Span, drive};
use super::lab::{Lab, Measured, busy};
use super::load::name_of;
use super::raw::Conversation;
use super::schedule::Keys;
use super::validate::Popularity;

const VALIDATE_STREAM: &str = "/kindred.session.v1.Session/ValidateStream";
/// Questions of one message.
pub(super) const QUESTIONS: usize = 128;
/// Messages that are encoded beforehand, for each region in which accounts live; then they are sent again.
const MESSAGES: usize = 256;
/// Streams; each has one message under way at a time.
const STREAMS_MAX: usize = 256;

/// An encoded message, and the region in which its accounts live.
struct Batch {
    home: usize,
    message: Bytes,
}

/// A stream to one node, once it is open.
type Line = Mutex<Option<(usize, Conversation<session::ValidateStreamReply>)>>;

impl Lab<'_> {
    /// Validates live sessions linearizably, many in a message.
    pub(super) async fn streamed(
        &self,
        span: Duration,
        pace: &Pace,
        popularity: Popularity,
    ) -> anyhow::Result<Measured> {
        let batches = self.batches(popularity)?;
        let streams = if let Pace::Closed(in_flight) = pace { *in_flight } else { STREAMS_MAX };
        let lines: Vec<Line> = (0..streams.clamp(1, STREAMS_MAX)).map(|_| Mutex::default()).collect();
        let bar = busy("validations on streams");
        let at = Cell::new(0);
        let next = || batches.get(at.replace(at.get() + 1) % batches.len().max(1));
        let call = async |worker: usize, item: &Batch| self.ask(&lines[worker % lines.len()], worker, item).await;
        let mut measured = self.measure(drive(pace, Span::Time(span), next, call)).await?;
        measured.load.answers_per_call = QUESTIONS as u64;
        bar.finish_and_clear();
        Ok(measured)
    }

    async fn ask(&self, line: &Line, worker: usize, batch: &Batch) -> Answer {
        let mut line = line.lock().await;
        let mut conversation = match line.take() {
            Some((home, conversation)) if home == batch.home => conversation,
            _ => Conversation::begin(self.channel(worker, batch.home), VALIDATE_STREAM),
        };
        let reply = conversation.ask(batch.message.clone()).await.map_err(|status| name_of(&status))?;
        *line = Some((batch.home, conversation));
        if reply.replies.len() != QUESTIONS {
            return Err("wrong number of verdicts".to_owned());
        }
        for reply in &reply.replies {
            match &reply.verdict {
                Some(Verdict::Valid(_)) => {}
                Some(Verdict::Undetermined(doubt)) => {
                    return Err(format!("UNDETERMINED {}", doubt.reason().as_str_name()));
                }
                _ => return Err("wrong verdict".to_owned()),
            }
        }
        Ok(None)
    }

    /// Messages about live sessions, the regions in turn.
    fn batches(&self, popularity: Popularity) -> anyhow::Result<Vec<Batch>> {
        let live = self.live.borrow();
        let mut by_home = vec![Vec::new(); self.workshop.regions.len()];
        for live in live.iter() {
            let (account, session) = (raw(live.account.as_bytes()), raw(live.session.as_bytes()));
            by_home[live.home].push(session::Question { account, session, min_set_version: 0 });
        }
        let mut batches = Vec::new();
        let homes: Vec<_> = by_home.iter().enumerate().filter(|(_, questions)| !questions.is_empty()).collect();
        let mut keys = Vec::new();
        for (_, questions) in &homes {
            keys.push(RefCell::new(Keys::new(questions.len(), popularity.zipf, popularity.seed)?));
        }
        for batch in 0..MESSAGES as u64 {
            for ((home, questions), keys) in homes.iter().zip(&keys) {
                let picked = (0..QUESTIONS).filter_map(|_| questions.get(keys.borrow_mut().pick()).cloned());
                let message = session::ValidateStreamRequest {
                    batch,
                    level: session::Level::Linearizable.into(),
                    questions: picked.collect(),
                    home_region: self.workshop.regions[*home].clone(),
                };
                batches.push(Batch { home: *home, message: message.encode_to_vec().into() });
            }
        }
        Ok(batches)
    }
}
