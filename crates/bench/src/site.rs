//! The topics of a run at the server: created before it, their offsets read before and after it.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use protocol::code::{RequestCode, ResponseCode};
use protocol::command::Command;
use protocol::headers::{GetMaxOffsetRequest, GetMaxOffsetResponse};

use crate::load::Load;
use crate::reader::Range;
use crate::topics::creation;
use crate::wire::Session;

/// Questions in flight.
const CALLS_AT_ONCE: usize = 64;
const SETTLE_POLL: Duration = Duration::from_millis(20);

/// The queues of a run and where they ended before it.
pub(crate) struct Site<'a> {
    load: &'a Load,
    session: Session,
    ends_before: Vec<u64>,
}

impl<'a> Site<'a> {
    /// Creates what is missing and reads the offsets.
    pub(crate) fn prepare(load: &'a Load) -> Result<Self> {
        let mut site = Self {
            load,
            session: Session::open(load.target)?,
            ends_before: Vec::new(),
        };
        if load.create {
            site.create_topics()?;
            site.ends_before = site.ends()?;
        }
        Ok(site)
    }

    fn create_topics(&mut self) -> Result<()> {
        for topics in self.load.topic_names().chunks(CALLS_AT_ONCE) {
            let requests = topics
                .iter()
                .map(|topic| creation(topic, self.load.queues))
                .collect();
            let responses = self.session.call_all(requests)?;
            for (topic, response) in topics.iter().zip(responses) {
                let code = response.response_code();
                ensure!(
                    code != ResponseCode::REQUEST_CODE_NOT_SUPPORTED,
                    "{} does not take topics: it is no broker (a name server?)",
                    self.load.target
                );
                ensure!(
                    code == ResponseCode::SUCCESS,
                    "topic {topic} cannot be created: {code} {}",
                    response.remark.unwrap_or_default()
                );
            }
        }
        Ok(())
    }

    /// The end of each queue, in the order in which senders number them.
    fn ends(&mut self) -> Result<Vec<u64>> {
        let queues = self.load.queues as i32;
        let names = self.load.topic_names();
        let places: Vec<(&String, i32)> = names
            .iter()
            .flat_map(|topic| (0..queues).map(move |queue_id| (topic, queue_id)))
            .collect();
        let mut ends = Vec::with_capacity(places.len());
        for places in places.chunks(CALLS_AT_ONCE) {
            let question = |(topic, queue_id): &(&String, i32)| {
                let header = GetMaxOffsetRequest {
                    topic: (*topic).clone(),
                    queue_id: *queue_id,
                    ..GetMaxOffsetRequest::default()
                };
                Command::request(RequestCode::GET_MAX_OFFSET, &header)
            };
            let responses = self
                .session
                .call_all(places.iter().map(question).collect())?;
            for ((topic, queue_id), response) in places.iter().zip(responses) {
                let header: GetMaxOffsetResponse = response
                    .header()
                    .with_context(|| format!("the end of queue {queue_id} of {topic}"))?;
                ends.push(u64::try_from(header.offset)?);
            }
        }
        Ok(ends)
    }

    /// What lies in each queue since the site was prepared.
    pub(crate) fn ranges(&mut self) -> Result<Vec<Range>> {
        let ends = self.ends()?;
        let topics = self.load.topic_names();
        let queues = self.load.queues as usize;
        let places = self.ends_before.iter().zip(ends).enumerate();
        let ranges = places.map(|(place, (begin, end))| Range {
            topic: topics[place / queues].clone(),
            queue_id: (place % queues) as i32,
            begin: *begin,
            end,
        });
        Ok(ranges.collect())
    }

    /// Messages that the queues gained; waits a while for the expected number. `None` when the server is not asked.
    pub(crate) fn stored(&mut self, expected: u64) -> Result<Option<u64>> {
        if !self.load.create {
            return Ok(None);
        }
        let deadline = Instant::now() + self.load.settle;
        loop {
            let ranges = self.ranges()?;
            let stored = ranges.iter().map(|range| range.end - range.begin).sum();
            if stored >= expected || Instant::now() > deadline {
                return Ok(Some(stored));
            }
            thread::sleep(SETTLE_POLL);
        }
    }
}
