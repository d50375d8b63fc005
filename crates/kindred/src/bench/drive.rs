//! Makes calls, closed or open loop, and decides which of them count.
//!
//! Closed: so many calls are in flight, and the next one starts when one is answered. Open: calls start when a schedule
//! says so, whether the system keeps up or not, and each latency counts from that moment, so a stall is felt by every call
//! that it held up and not by one.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use futures::FutureExt as _;
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use tokio::time::Instant;

use super::load::Load;
use super::schedule::Schedule;

/// One part in so many of every run is warm-up: called, but not measured.
pub(super) const WARMUP_PART: u32 = 10;
/// Calls of an open loop that may be under way at once; the rest wait, and their wait is part of their latency.
pub(super) const OPEN_IN_FLIGHT_MAX: usize = 4_096;

/// How long a run lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Span {
    /// So many calls.
    Calls(u64),
    /// Calls are started for so long.
    Time(Duration),
}

/// What makes a call start.
#[derive(Clone, Debug)]
pub(super) enum Pace {
    /// So many in flight.
    Closed(usize),
    /// A schedule.
    Open(Schedule),
}

/// A good answer, by kind where a run mixes kinds; or why there is none.
pub(super) type Answer = Result<Option<&'static str>, String>;

/// Calls until the span is over or `next` has nothing more. A call that fails is counted, not repeated. The worker's
/// number tells calls apart that may be under way at once.
pub(super) async fn drive<T>(
    pace: &Pace,
    span: Span,
    next: impl Fn() -> Option<T>,
    call: impl AsyncFn(usize, T) -> Answer,
) -> anyhow::Result<Load> {
    match pace {
        Pace::Closed(in_flight) => closed_loop(*in_flight, span, next, call).await,
        Pace::Open(schedule) => open_loop(*schedule, span, next, call).await,
    }
}

async fn closed_loop<T>(
    in_flight: usize,
    span: Span,
    next: impl Fn() -> Option<T>,
    call: impl AsyncFn(usize, T) -> Answer,
) -> anyhow::Result<Load> {
    let meter = RefCell::new(Meter::new(span, Instant::now())?);
    let workers = (0..in_flight).map(async |worker| {
        loop {
            let sent = Instant::now();
            if !meter.borrow_mut().may_start(sent) {
                return;
            }
            let Some(item) = next() else { return meter.borrow_mut().close(sent) };
            let answer = call(worker, item).await;
            meter.borrow_mut().ended(Instant::now(), sent, answer);
        }
    });
    futures::future::join_all(workers).await;
    Ok(meter.into_inner().finish(Instant::now()))
}

async fn open_loop<T>(
    schedule: Schedule,
    span: Span,
    next: impl Fn() -> Option<T>,
    call: impl AsyncFn(usize, T) -> Answer,
) -> anyhow::Result<Load> {
    let begun = Instant::now();
    let load = RefCell::new(Load::new()?);
    let last = Cell::new(begun);
    let (from, until) = match span {
        Span::Calls(calls) => (schedule.expected(calls / u64::from(WARMUP_PART)), Duration::MAX),
        Span::Time(time) => (time / WARMUP_PART, time),
    };
    let calls = if let Span::Calls(calls) = span { usize::try_from(calls).unwrap_or(usize::MAX) } else { usize::MAX };
    let one = async |worker: usize, item: T, at: Duration| {
        let answer = call(worker, item).await;
        let (now, mut load) = (Instant::now(), load.borrow_mut());
        last.set(now);
        match answer {
            Ok(kind) if at >= from => load.record(now.saturating_duration_since(begun + at), kind),
            Ok(_) => {}
            Err(name) => load.fail(name),
        }
    };
    let mut flying = FuturesUnordered::new();
    for (number, at) in schedule.starts().take(calls).take_while(|at| *at < until).enumerate() {
        let due = begun + at;
        loop {
            if flying.len() >= OPEN_IN_FLIGHT_MAX {
                flying.next().await;
            } else if Instant::now() >= due {
                break;
            } else {
                tokio::select! {
                    biased;
                    Some(()) = flying.next() => {}
                    () = tokio::time::sleep_until(due) => break,
                }
            }
        }
        let Some(item) = next() else { break };
        flying.push(one(number, item, at));
        // Sends it; and a schedule that is behind must not keep answers from being read.
        while let Some(Some(())) = flying.next().now_or_never() {}
        tokio::task::yield_now().await;
    }
    while flying.next().await.is_some() {}
    drop(flying);
    let mut load = load.into_inner();
    load.elapsed = last.get().saturating_duration_since(begun + from);
    Ok(load)
}

/// Decides which calls of a closed loop count: those that are answered between the end of the warm-up and the moment when
/// no further call is started. So neither the filling nor the draining of the pipe is measured.
struct Meter {
    span: Span,
    begun: Instant,
    started: u64,
    from: Option<Instant>,
    until: Option<Instant>,
    load: Load,
}

impl Meter {
    fn new(span: Span, begun: Instant) -> anyhow::Result<Self> {
        Ok(Self { span, begun, started: 0, from: None, until: None, load: Load::new()? })
    }

    /// Whether one more call may start now.
    fn may_start(&mut self, now: Instant) -> bool {
        if self.until.is_some() {
            return false;
        }
        let is_warm = match self.span {
            Span::Calls(calls) => {
                if self.started >= calls {
                    self.close(now);
                    return false;
                }
                self.started >= calls / u64::from(WARMUP_PART)
            }
            Span::Time(time) => {
                if now >= self.begun + time {
                    self.close(self.begun + time);
                    return false;
                }
                now >= self.begun + time / WARMUP_PART
            }
        };
        if is_warm {
            self.from.get_or_insert(now);
        }
        self.started += 1;
        true
    }

    /// No further call is started.
    fn close(&mut self, now: Instant) {
        self.until.get_or_insert(now);
    }

    fn ended(&mut self, now: Instant, sent: Instant, answer: Answer) {
        let counts = self.from.is_some_and(|from| now > from) && self.until.is_none_or(|until| now <= until);
        match answer {
            Ok(kind) if counts => self.load.record(now.saturating_duration_since(sent), kind),
            Ok(_) => {}
            Err(name) => self.load.fail(name),
        }
    }

    fn finish(mut self, now: Instant) -> Load {
        let until = self.until.unwrap_or(now);
        self.load.elapsed = until.saturating_duration_since(self.from.unwrap_or(until));
        self.load
    }
}

#[cfg(test)]
mod tests {
    use super::super::schedule::Arrivals;
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[tokio::test]
    async fn a_closed_loop_calls_every_item_once_and_never_more_at_a_time_than_asked() {
        let (next, flying, most) = (Cell::new(0), Cell::new(0), Cell::new(0));
        let items = || {
            next.set(next.get() + 1);
            (next.get() <= 100).then_some(next.get())
        };
        let call = async |_: usize, item: u32| {
            flying.set(flying.get() + 1);
            most.set(most.get().max(flying.get()));
            tokio::task::yield_now().await;
            flying.set(flying.get() - 1);
            if item.is_multiple_of(10) { Err("BUSY".to_owned()) } else { Ok(None) }
        };
        let load = drive(&Pace::Closed(8), Span::Calls(1_000), items, call).await.unwrap();
        assert_eq!((load.errors["BUSY"], load.failed(), most.get(), flying.get()), (10, 10, 8, 0));
        assert!(next.get() > 100, "it asked until there was nothing more");
    }

    #[test]
    fn warm_up_and_drain_are_not_measured_but_their_errors_are_told() {
        let begun = Instant::now();
        let mut meter = Meter::new(Span::Calls(10), begun).unwrap();
        assert!(meter.may_start(begun), "the warm-up");
        meter.ended(begun + MS, begun, Ok(None));
        meter.ended(begun + MS, begun, Err("EARLY".into()));
        for _ in 1..10 {
            assert!(meter.may_start(begun + 2 * MS));
        }
        for _ in 0..8 {
            meter.ended(begun + 4 * MS, begun + 2 * MS, Ok(None));
        }
        assert!(!meter.may_start(begun + 6 * MS), "ten were started");
        meter.ended(begun + 9 * MS, begun + 2 * MS, Ok(None));
        let load = meter.finish(begun + 9 * MS);
        assert_eq!((load.answered(), load.failed(), load.elapsed), (8, 1, 4 * MS));
        assert_eq!(load.per_second(), 2_000.0);
    }

    #[test]
    fn a_run_for_a_time_ends_on_time_however_late_the_last_look() {
        let begun = Instant::now();
        let mut meter = Meter::new(Span::Time(100 * MS), begun).unwrap();
        assert!(meter.may_start(begun));
        assert!(meter.may_start(begun + 20 * MS));
        meter.ended(begun + 50 * MS, begun + 20 * MS, Ok(None));
        assert!(!meter.may_start(begun + 300 * MS));
        assert_eq!(meter.finish(begun + 300 * MS).elapsed, 80 * MS);
    }

    #[tokio::test]
    async fn an_open_loop_blames_a_stall_on_every_call_that_it_held_up() {
        let schedule = Schedule::new(Arrivals::Constant, 1_000.0, 1);
        let number = Cell::new(0_u32);
        let next = || Some(number.replace(number.get() + 1));
        let until = Cell::new(None);
        // Nothing is answered within 60 ms of the first call, although the calls are due at 1 ms, 2 ms, ….
        let call = async |_: usize, _: u32| {
            if until.get().is_none() {
                until.set(Some(Instant::now() + 60 * MS));
            }
            tokio::time::sleep_until(until.get().unwrap()).await;
            Ok(None)
        };
        let load = drive(&Pace::Open(schedule), Span::Calls(40), next, call).await.unwrap();
        assert_eq!((number.get(), load.answered()), (40, 37));
        assert!(load.quantile_ms(0.0) >= 18.0, "the last call was due at 40 ms: {} ms", load.quantile_ms(0.0));
        assert!(load.quantile_ms(0.5) >= 35.0, "half of them waited longer: {} ms", load.quantile_ms(0.5));
    }
}
