//! What servers send: frames, sessions, answers, events.

use super::lease::{self, BEAT, Touches};
use super::watches::needs_persistent;
use super::{
    Beat, Connected, Effect, End, Failure, Grant, LinkId, Machine, Outcome, Output, Part, Phase, Refusal, Registration,
    Response, answer, code, put_identity, put_request,
};
use crate::error::REFUSING;
use crate::limits::PROBE_MIN;
use crate::machine::line::Entry;
use crate::watch::WatchKind;
use crate::{SessionState, Time};
use farrier_proto::client::{ConnectResponse, EventType, ReplyHeader, WatcherEvent};
use farrier_proto::{ErrorCode, Field as _, OpCode, Reader, Xid, Zxid};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

impl Machine {
    /// Handles the whole frames at the start of `bytes`; how many bytes they are.
    pub(super) fn frames(&mut self, now: Time, bytes: &[u8]) -> usize {
        let mut used = 0;
        let link = self.link;
        while let Some(word) = bytes[used..].first_chunk::<4>() {
            let len = i32::from_be_bytes(*word);
            let Some(len) = usize::try_from(len).ok().filter(|len| *len <= self.settings.reply_max) else {
                let xid = bytes[used + 4..].first_chunk::<4>().map(|xid| Xid(i32::from_be_bytes(*xid)));
                if len > 0 && xid.is_none() {
                    break;
                }
                let max = self.settings.reply_max;
                let reason = format!("it announced a frame of {len} bytes; the client takes up to {max}");
                self.too_long(xid.filter(|_| len > 0), &reason);
                self.hang_up(now, &reason);
                return bytes.len();
            };
            let Some(frame) = bytes[used + 4..].get(..len) else { break };
            used += 4 + len;
            if let Err(broken) = self.frame(now, frame) {
                self.hang_up(now, &format!("it broke the protocol: {broken}"));
            }
            if link != self.link || !self.has_link() {
                return bytes.len();
            }
        }
        used
    }

    /// The request that the frame would answer has that for its end: on another connection it would be answered in the
    /// same way, and take down that one too.
    fn too_long(&mut self, xid: Option<Xid>, reason: &str) {
        if let Phase::Connected { .. } = self.phase
            && let Some(entry) = xid.and_then(|xid| self.line.answered(xid, false))
        {
            self.unreadable(entry, format!("{reason}, which ClientBuilder::reply_max raises").into());
        }
    }

    fn frame(&mut self, now: Time, frame: &[u8]) -> Result<(), String> {
        let mut r = Reader::new(frame);
        if let Phase::Handshaking { host, sent, .. } = self.phase {
            let response = ConnectResponse::read(&mut r).map_err(|e| format!("session: {e}"))?;
            self.session(now, host, sent, &response);
            return Ok(());
        }
        let header = ReplyHeader::read(&mut r).map_err(|e| format!("header: {e}"))?;
        match header.xid {
            Xid::NOTIFICATION => self.notified(header.zxid, &mut r),
            Xid::PING => {
                let Phase::Connected { state, .. } = &mut self.phase else { return Ok(()) };
                let sent = state.pings.pop_front().ok_or("an answer to a ping that was not sent")?;
                self.heard(sent, now);
                Ok(())
            }
            Xid::AUTH => self.identified(header.err),
            Xid::SET_WATCHES => self.set_again(header.err),
            BEAT => self.renewed(now, &header),
            _ => self.reply(now, &header, &mut r),
        }
    }

    fn session(&mut self, now: Time, host: usize, sent: Time, response: &ConnectResponse) {
        self.name = self.hosts.get(host).to_string().into();
        let Some(timeout) = u64::try_from(response.timeout).ok().filter(|t| *t > 0) else {
            self.expired(now, host);
            return;
        };
        let read_only = response.read_only == Some(true);
        if read_only && !self.settings.allow_read_only {
            self.hang_up(now, "it is read-only, and ClientBuilder::allow_read_only was not given");
            return;
        }
        // The shortest of all that the session was ever given: a leader that takes over goes by the one with which it was
        // made, whatever a server with other limits said since.
        let known = self.session.as_ref().filter(|grant| grant.id == response.session).map(|grant| grant.timeout);
        let timeout = Duration::from_millis(timeout);
        let timeout = known.map_or(timeout, |known| known.min(timeout));
        let local = match &self.session {
            Some(grant) if grant.id == response.session => grant.local && read_only,
            _ => read_only,
        };
        let is_new = self.session.as_ref().is_none_or(|grant| grant.id != response.session);
        self.session = Some(Grant { id: response.session, password: response.password, timeout, local });
        if is_new {
            // A quorum made it. That a server takes an old one back proves less: its leader may be a deposed one.
            self.lease = Some(sent);
        }
        let mut state = Connected {
            since: now,
            read_only,
            heard: now,
            sent: now,
            touches: Touches::new(sent),
            pings: VecDeque::new(),
            beat: None,
            chunks: VecDeque::new(),
            identities: VecDeque::new(),
            announced: false,
            probe: None,
        };
        if read_only && self.hosts.len() > 1 {
            state.probe = Some((now + PROBE_MIN, self.hosts.after(host), PROBE_MIN * 2));
        }
        for identity in &self.identities {
            state.identities.push_back(identity.id);
            put_identity(&mut self.control, identity);
        }
        for (body, chunk) in self.watches.chunks(self.answered) {
            let op = if needs_persistent(&chunk) { OpCode::SetWatches2 } else { OpCode::SetWatches };
            put_request(&mut self.control, Xid::SET_WATCHES, op, |out| out.extend_from_slice(&body));
            state.chunks.push_back(chunk);
        }
        self.line.begin(now, state.touches.since(now, timeout));
        self.phase = Phase::Connected { host, state: Box::new(state) };
        self.announce();
    }

    /// Tells that the session is served, once the client is there with all its identities.
    fn announce(&mut self) {
        let Phase::Connected { state, .. } = &mut self.phase else { return };
        let Some(grant) = &self.session else { return };
        if state.announced || !state.identities.is_empty() {
            return;
        }
        state.announced = true;
        let (session, server, read_only) = (grant.id, Arc::clone(&self.name), state.read_only);
        self.out.push(Output::State(SessionState::Connected { session, server, read_only }));
    }

    fn expired(&mut self, now: Time, host: usize) {
        if !self.settings.renew_session {
            if self.session.is_none() {
                self.hosts.failed(host, &REFUSING.into());
            }
            self.end(End::Expired, &"the session has expired".into());
            return;
        }
        self.out.push(Output::Hangup);
        self.control.clear();
        self.input.clear();
        self.link = LinkId(self.link.0 + 1);
        for entry in self.line.take_all() {
            answer(&mut self.out, entry, Err(Failure::Expired));
        }
        self.lease = None;
        if let Some(grant) = self.session.take() {
            self.out.push(Output::State(SessionState::Expired { session: grant.id }));
            self.hosts.prefer(host);
            self.phase = Phase::Waiting { until: now };
        } else {
            self.hosts.failed(host, &REFUSING.into());
            self.phase = Phase::Waiting { until: now + self.hosts.pause() };
        }
    }

    fn notified(&mut self, zxid: i64, r: &mut Reader<'_>) -> Result<(), String> {
        let event = WatcherEvent::read(r).map_err(|e| format!("event: {e}"))?;
        let kind = EventType::from_code(event.kind).ok_or_else(|| format!("an event of type {}", event.kind))?;
        self.seen = self.seen.max(zxid);
        let zxid = (zxid > 0).then(|| Zxid::from_wire(zxid));
        self.watches.deliver(kind, &event.path, zxid, &mut self.out);
        Ok(())
    }

    fn identified(&mut self, err: i32) -> Result<(), String> {
        let Phase::Connected { state, .. } = &mut self.phase else { return Ok(()) };
        let id = state.identities.pop_front().ok_or("an answer to an authentication that was not sent")?;
        // It may have been given up meanwhile.
        let Some(index) = self.identities.iter().position(|i| i.id == id) else {
            self.announce();
            return Ok(());
        };
        let identity = &mut self.identities[index];
        let reply = identity.reply.take();
        if err == 0 {
            identity.confirmed = true;
            if let Some(reply) = reply {
                self.out.push(Output::Answer { reply, outcome: Ok(Response::Nothing) });
            }
            self.announce();
            return Ok(());
        }
        self.identities.remove(index);
        match reply {
            // The server closes the connection now; without the identity the next one will be fine.
            Some(reply) => {
                let outcome = Err(self.refusal(code(err), None));
                self.out.push(Output::Answer { reply, outcome });
            }
            None => self.end(End::AuthFailed, &"the server refuses the credentials".into()),
        }
        Ok(())
    }

    fn set_again(&mut self, err: i32) -> Result<(), String> {
        let Phase::Connected { state, .. } = &mut self.phase else { return Ok(()) };
        let chunk = state.chunks.pop_front().ok_or("an answer to watches that were not set again")?;
        if err == 0 {
            self.watches.set_again(&chunk, &mut self.out);
        } else {
            self.watches.refused(&chunk, &mut self.out);
        }
        Ok(())
    }

    fn renewed(&mut self, now: Time, header: &ReplyHeader) -> Result<(), String> {
        let Phase::Connected { state, .. } = &mut self.phase else { return Ok(()) };
        let beat = state.beat.as_mut().filter(|beat| !beat.is_answered);
        let beat = beat.ok_or("an answer to a sync that was not sent")?;
        beat.is_answered = true;
        let Beat { sent, since, .. } = *beat;
        self.answered_at(header.zxid);
        self.proved(OpCode::Sync, header.err, since);
        self.heard(sent, now);
        Ok(())
    }

    /// An answer shows the tree as of this zxid.
    fn answered_at(&mut self, zxid: i64) {
        if zxid > 0 {
            self.answered = self.answered.max(zxid);
            self.seen = self.seen.max(zxid);
        }
    }

    /// The server answers what was sent then, so it has heard of it.
    fn heard(&mut self, sent: Time, now: Time) {
        let timeout = self.timeout();
        if let Phase::Connected { state, .. } = &mut self.phase {
            state.touches.add(sent, now, timeout);
        }
    }

    /// The lease begins at `since` or later, if this answer came through the leader.
    fn proved(&mut self, op: OpCode, err: i32, since: Time) {
        let takes_writes = matches!(&self.phase, Phase::Connected { state, .. } if !state.read_only);
        if takes_writes && lease::is_leaders(op, err) {
            self.lease = self.lease.max(Some(since));
        }
    }

    fn reply(&mut self, now: Time, header: &ReplyHeader, r: &mut Reader<'_>) -> Result<(), String> {
        let ReplyHeader { xid, zxid, err } = *header;
        let entry = self.line.answered(xid, err != 0).ok_or_else(|| format!("an answer with the xid {}", xid.0))?;
        self.answered_at(zxid);
        self.proved(entry.op, err, entry.times.since);
        self.heard(entry.times.sent, now);
        if entry.op == OpCode::CloseSession {
            if let Some((Some(reply), _)) = self.closing.take() {
                self.out.push(Output::Answer { reply, outcome: Ok(Response::Nothing) });
            }
            self.end(End::Closed, &"the client was closed".into());
            return Ok(());
        }
        if err != 0 {
            self.refused(now, entry, code(err));
            return Ok(());
        }
        let mut entry = entry;
        match Response::read(entry.op, r) {
            Ok(response) => {
                match entry.effect.take().map(|effect| *effect) {
                    Some(Effect::Set(watch)) => self.arm(now, watch),
                    Some(Effect::Remove(path, kind)) => self.watches.removed(&path, kind, &mut self.out),
                    None => {}
                }
                let outcome = match response {
                    Response::Multi(parts) if entry.op == OpCode::Multi => self.multi(parts),
                    other => Ok(other),
                };
                answer(&mut self.out, entry, outcome);
                Ok(())
            }
            Err(error) => {
                let reason: Arc<str> = format!("the answer cannot be read: {error}").into();
                let broken = format!("reply to {:?}: {error}", entry.op);
                self.unreadable(entry, reason);
                Err(broken)
            }
        }
    }

    /// Its answer came, and says nothing to this client. To ask again would bring the same.
    fn unreadable(&mut self, entry: Entry, reason: Arc<str>) {
        let server = Arc::clone(&self.name);
        let failure = if entry.is_harmless() {
            Failure::Unreadable { server, reason }
        } else {
            Failure::Unknown { server, reason }
        };
        answer(&mut self.out, entry, Err(failure));
    }

    /// A multi that failed has a header without an error, and the error in its results.
    fn multi(&self, parts: Vec<Part>) -> Outcome {
        let failed = parts.iter().enumerate().find_map(|(index, part)| match part {
            Part::Failed(err) if *err != 0 => Some((index, *err)),
            Part::Failed(_) | Part::Done(_) => None,
        });
        match failed {
            Some((index, err)) => Err(self.refusal(code(err), Some(index))),
            None => Ok(Response::Multi(parts)),
        }
    }

    fn refused(&mut self, now: Time, mut entry: Entry, code: ErrorCode) {
        if entry.op == OpCode::Exists
            && code == ErrorCode::NoNode
            && let Some(Effect::Set(watch)) = entry.effect.take().map(|effect| *effect)
        {
            self.arm(now, Registration { kind: WatchKind::Exist, ..watch });
        }
        let failure = self.refusal(code, None);
        answer(&mut self.out, entry, Err(failure));
    }

    fn refusal(&self, code: ErrorCode, index: Option<usize>) -> Failure {
        Failure::Refused(Refusal { code, index, server: Arc::clone(&self.name) })
    }

    fn arm(&mut self, now: Time, watch: Registration) {
        if !watch.queue.is_closed() {
            self.watches.arm(watch);
        } else if !self.watches.has(watch.kind, &watch.path) {
            self.drop_at_server(now, watch.kind, &watch.path);
        }
    }
}
