//! A call that reports: each message is judged as it comes, and the call is answered when all of them
//! are durable. A stream may last for hours; what it has brought is taken as it goes.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Request};
use hyper::body::Incoming;
use tokio_util::sync::CancellationToken;

use super::Desk;
use super::stream_quota::{Held, StreamQuota};
use crate::caller::Caller;
use crate::grpc::{Code, Coding, Flaw, MESSAGE_LIMIT, Messages, Status};
use crate::protocol::carry::Carry;
use crate::protocol::claim::{Claimed as ClaimedAt, claims};
use crate::protocol::collection::Parts;
use crate::protocol::method::{Handling, Method};
use crate::quota;
use crate::record::{Record, RecordKind};
use crate::rules::Claimed;
use crate::sink::{Later, Untaken};
use crate::workshop::{HEAVY, apart};

pub(super) async fn report(
    desk: &Arc<Desk>,
    method: &'static Method,
    request: Request<Incoming>,
    caller: &Arc<Caller>,
) -> Result<Bytes, Status> {
    let (parts, body) = request.into_parts();
    let coding = Coding::of(&parts.headers)?;
    let quota = StreamQuota::open(desk, caller.account())?;
    let mut messages =
        Messages::new(body, coding, MESSAGE_LIMIT, quota::PATIENCE * 15).within(quota.held());
    let mut intake = Intake::new(desk, caller, &parts.headers, quota);
    let mut arrived = Vec::new();
    while intake.until(messages.next(&mut arrived)).await? {
        if arrived.iter().map(Bytes::len).sum::<usize>() < HEAVY {
            for message in arrived.drain(..) {
                intake.add(method, message)?;
            }
        } else {
            let (all, held) = (std::mem::take(&mut arrived), messages.room().lend());
            let add = move |intake: &mut Intake| {
                all.into_iter().try_for_each(|message| intake.add(method, message))
            };
            let lent;
            (intake, lent, ()) = intake.apart(held, add).await?;
            messages.room().take_back(lent);
        }
        intake.hand_over().await?;
    }
    intake.finish().await?;
    Ok(Bytes::from_static(method.reply.accepted()))
}

/// What one call has brought.
pub(super) struct Intake {
    desk: Arc<Desk>,
    caller: Arc<Caller>,
    quota: StreamQuota,
    version: String,
    carry: Carry,
    /// Whom the last message claimed to come from: most streams have one claim, which is judged once.
    judged: Option<(String, String)>,
    batch: Vec<Record>,
    bytes: u64,
    /// What was handed over and is not durable yet.
    flying: VecDeque<Flying>,
    /// Tells in the workshop that nobody waits any more.
    given_up: Option<CancellationToken>,
}

/// A batch on its way to the disk, and what is in it.
struct Flying {
    landing: Later<Result<(), Untaken>>,
    runs: Vec<(RecordKind, u64, u64)>,
}

impl Intake {
    pub(super) fn new(
        desk: &Arc<Desk>,
        caller: &Arc<Caller>,
        headers: &HeaderMap,
        quota: StreamQuota,
    ) -> Self {
        Self {
            desk: Arc::clone(desk),
            caller: Arc::clone(caller),
            quota,
            version: version(headers),
            carry: Carry::default(),
            judged: None,
            batch: Vec::new(),
            bytes: 0,
            flying: VecDeque::new(),
            given_up: None,
        }
    }

    /// Reads so many bytes: here, or in the workshop if they are many.
    pub(super) async fn read<T: Send + 'static>(
        mut self,
        bytes: usize,
        held: Held,
        work: impl FnOnce(&mut Self) -> Result<T, Status> + Send + 'static,
    ) -> Result<(Self, Held, T), Status> {
        if bytes >= HEAVY {
            return self.apart(held, work).await;
        }
        let made = work(&mut self)?;
        Ok((self, held, made))
    }

    /// Reads in the workshop. If the call ends before that does, nothing of it is taken, and both its stream and what
    /// it holds count until it has ended.
    async fn apart<T: Send + 'static>(
        mut self,
        held: Held,
        work: impl FnOnce(&mut Self) -> Result<T, Status> + Send + 'static,
    ) -> Result<(Self, Held, T), Status> {
        let (intake, held, made) = apart(move |given_up| {
            self.given_up = Some(given_up.clone());
            let made = work(&mut self);
            self.given_up = None;
            (self, held, made)
        })
        .await?;
        Ok((intake, held, made?))
    }

    /// What comes next. What becomes of a batch meanwhile is known before that: a stream may be silent for hours.
    async fn until<T>(
        &mut self,
        next: impl Future<Output = Result<T, Status>>,
    ) -> Result<T, Status> {
        let mut next = pin!(next);
        loop {
            tokio::select! {
                biased;
                landed = self.land(), if !self.flying.is_empty() => landed?,
                next = &mut next => return next,
            }
        }
    }

    /// Judges a message and makes records of it.
    fn add(&mut self, method: &Method, message: Bytes) -> Result<(), Status> {
        match method.handling {
            Handling::Collection(kind) => {
                for part in Parts::of(method.path, message) {
                    self.add_record(kind, part.map_err(|error| malformed(&error))?)?;
                }
                Ok(())
            }
            Handling::Report(kind) => self.add_record(kind, message),
            Handling::Ask | Handling::Health => {
                Err(Status::new(Code::Internal, "this method does not report"))
            }
        }
    }

    /// Judges what is to be one record.
    pub(super) fn add_record(&mut self, kind: RecordKind, message: Bytes) -> Result<(), Status> {
        if self.given_up.as_ref().is_some_and(CancellationToken::is_cancelled) {
            return Err(Status::new(Code::Cancelled, "the call was given up"));
        }
        let body = self.carry.complete(kind, message).map_err(|error| malformed(&error))?;
        let Self { desk, caller, judged, version, .. } = self;
        let claims = claims(kind, &body).map_err(|error| malformed(&error))?;
        let mut refusal = None;
        for claim in claims.iter() {
            let (service, instance) = (&*claim.service, claim.instance);
            let known = judged.as_ref().is_some_and(|(s, i)| s == service && i == instance);
            if known {
                continue;
            }
            if service.is_empty() && ClaimedAt::of(kind) != ClaimedAt::Nowhere {
                refusal = Some(
                    Status::new(
                        Code::InvalidArgument,
                        format!("a message of kind {kind} names no service"),
                    )
                    .flawed(Flaw::Malformed),
                );
                break;
            }
            let claimed = Claimed { instance, service };
            if let Err(status) = desk.judge(caller, kind, claimed) {
                refusal = Some(status);
                break;
            }
            desk.census.heard(caller, claimed, version, desk.now());
            *judged = Some((service.to_owned(), instance.to_owned()));
        }
        if let Some(status) = refusal {
            return Err(status);
        }
        self.bytes += body.len() as u64;
        self.batch.push(Record {
            body,
            kind,
            received: self.desk.now(),
            reporter: self.caller.label().clone(),
        });
        Ok(())
    }

    /// Hands what has come so far to the sink. The next messages may come while it is written.
    pub(super) async fn hand_over(&mut self) -> Result<(), Status> {
        if self.batch.is_empty() {
            return Ok(());
        }
        self.quota.pay(self.batch.len() as u64, self.bytes).await?;
        let records = std::mem::take(&mut self.batch);
        let runs = runs(&records);
        self.bytes = 0;
        let taken = self.desk.health.note(self.desk.sink.take(records).await)?;
        self.desk.notice(&self.caller, &taken.noticed);
        self.flying.push_back(Flying { landing: taken.durable, runs });
        while self.flying.len() > FLYING {
            self.land().await?;
        }
        Ok(())
    }

    /// Resolves when everything is durable.
    pub(super) async fn finish(mut self) -> Result<(), Status> {
        self.hand_over().await?;
        while !self.flying.is_empty() {
            self.land().await?;
        }
        if let Some((service, instance)) = &self.judged {
            let claimed = Claimed { instance, service };
            self.desk.census.heard(&self.caller, claimed, &self.version, self.desk.now());
        }
        Ok(())
    }

    /// The oldest batch is durable, or was not taken. It stays where it is when this is dropped before it is done.
    async fn land(&mut self) -> Result<(), Status> {
        let Some(oldest) = self.flying.front_mut() else { return Ok(()) };
        let landed = self.desk.health.note(oldest.landing.as_mut().await);
        let runs = self.flying.pop_front().map(|flying| flying.runs);
        landed?;
        for (kind, records, bytes) in runs.unwrap_or_default() {
            self.desk.counts.accepted(kind, records, bytes);
        }
        Ok(())
    }
}

/// Records of one kind in a row: how many, and how many bytes. A batch is one such run most often.
fn runs(mut records: &[Record]) -> Vec<(RecordKind, u64, u64)> {
    let mut runs = Vec::with_capacity(1);
    while let Some(first) = records.first() {
        let same = records.iter().take_while(|record| record.kind == first.kind).count();
        let (run, after) = records.split_at(same);
        let bytes = run.iter().map(|record| record.body.len() as u64).sum();
        runs.push((first.kind, run.len() as u64, bytes));
        records = after;
    }
    runs
}

/// What the agent says it is.
fn version(headers: &HeaderMap) -> String {
    let said = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let text = said("agent-version").or_else(|| said("user-agent")).unwrap_or_default();
    text.chars().take(VERSION_CHARS).collect()
}

pub(super) fn malformed(error: &dyn std::fmt::Display) -> Status {
    Status::new(Code::InvalidArgument, format!("a message cannot be read: {error}"))
        .flawed(Flaw::Malformed)
}

/// Batches of one call that may be on their way to the disk.
const FLYING: usize = 4;

const VERSION_CHARS: usize = 100;
