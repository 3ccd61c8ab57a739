//! What the shard that owns a user knows of them: how many sessions, how much of each rate.
//!
//! It never sees a message's text and never reads a clock.
//!
//! Invariant: a user without sessions is forgotten once no rate remembers them.

use std::collections::VecDeque;

use throng_protocol::{ErrorCode, UserId};
use throng_router::Table;

use crate::config::Limits;
use crate::lane::{RateState, Refusal};
use crate::limits::{Rate, Window};

/// The users that one shard owns.
#[derive(Debug, Default)]
pub(crate) struct Users {
    states: Table<UserId, State>,
    /// Sessions of all of them.
    sessions: u64,
    /// Users who may be forgotten, and when to look.
    leaving: VecDeque<(u64, UserId)>,
}

/// 16 bytes beside the user's id.
#[derive(Debug, Default)]
struct State {
    sessions: u16,
    /// Whether it is in the list of those who may be forgotten.
    is_leaving: bool,
    message: Window,
    identify: Window,
}

/// Bytes of one user, its place in the table of ids aside.
#[cfg(test)]
pub(crate) const USER_BYTES: usize = size_of::<(UserId, State)>();

/// How long a user who left is looked after: longer than any usual window.
const FORGET_AFTER_MS: u64 = 60_000;

impl Users {
    /// One more session, if the limits allow it.
    pub(crate) fn open_session(
        &mut self,
        user: UserId,
        limits: &Limits,
        now_ms: u64,
    ) -> Result<(), Refusal> {
        let state = self.states.get_or_insert_with(user, State::default);
        let opened = state
            .identify
            .take(limits.identify, now_ms)
            .map_err(|ms| Refusal::rate_limited("too many IDENTIFY commands", ms))
            .and_then(|()| state.open(limits.sessions.per_user));
        if state.sessions == 0 && !std::mem::replace(&mut state.is_leaving, true) {
            self.leaving.push_back((now_ms + FORGET_AFTER_MS, user));
        }
        self.sessions += u64::from(opened.is_ok());
        opened
    }

    /// A session has ended.
    pub(crate) fn close_session(&mut self, user: UserId, now_ms: u64) {
        let state = self
            .states
            .get_mut(&user)
            .expect("a user with a session is known");
        assert!(state.sessions > 0, "a session is closed once");
        state.sessions -= 1;
        self.sessions -= 1;
        if state.sessions == 0 && !std::mem::replace(&mut state.is_leaving, true) {
            self.leaving.push_back((now_ms + FORGET_AFTER_MS, user));
        }
    }

    /// Sessions of the users that this shard owns.
    pub(crate) fn sessions(&self) -> u64 {
        self.sessions
    }

    /// Counts a message.
    pub(crate) fn count_message(&mut self, user: UserId, rate: Rate, now_ms: u64) -> RateState {
        let Some(state) = self.states.get_mut(&user) else {
            return RateState::Free; // The session ended while its message was on the way.
        };
        match state.message.take(rate, now_ms) {
            Ok(()) => RateState::Counted,
            Err(retry_after_ms) => RateState::Over { retry_after_ms },
        }
    }

    /// A counted message turned out to be a resent one.
    pub(crate) fn give_back(&mut self, user: UserId) {
        if let Some(state) = self.states.get_mut(&user) {
            state.message.give_back();
        }
    }

    /// Forgets users who left and whose rates are over.
    pub(crate) fn expire(&mut self, limits: &Limits, now_ms: u64) {
        while self
            .leaving
            .front()
            .is_some_and(|(due_ms, _)| *due_ms <= now_ms)
        {
            let Some((_, user)) = self.leaving.pop_front() else {
                break;
            };
            let Some(state) = self.states.get_mut(&user) else {
                continue;
            };
            if state.sessions > 0 {
                state.is_leaving = false;
                continue;
            }
            if state.message.is_over(limits.message, now_ms)
                && state.identify.is_over(limits.identify, now_ms)
            {
                self.states.remove(&user);
            } else {
                self.leaving.push_back((now_ms + FORGET_AFTER_MS, user));
            }
        }
    }
}

impl State {
    fn open(&mut self, per_user: u32) -> Result<(), Refusal> {
        let is_full = per_user > 0 && u32::from(self.sessions) >= per_user;
        if is_full || self.sessions == u16::MAX {
            return Err(TOO_MANY_SESSIONS);
        }
        self.sessions += 1;
        Ok(())
    }
}

/// The limit of sessions per user; closes the connection with 4012.
pub(crate) const TOO_MANY_SESSIONS: Refusal = Refusal {
    code: ErrorCode::InvalidSession,
    message: "this user has as many sessions as are allowed",
    retry_after_ms: None,
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_are_limited_and_users_forgotten() {
        let user = UserId::from_u128(1);
        let mut limits = Limits::default();
        limits.sessions.per_user = 2;
        let mut users = Users::default();
        assert_eq!(users.open_session(user, &limits, 0), Ok(()));
        assert_eq!(users.open_session(user, &limits, 0), Ok(()));
        assert_eq!(users.open_session(user, &limits, 0), Err(TOO_MANY_SESSIONS));
        users.close_session(user, 1_000);
        users.close_session(user, 2_000);
        users.expire(&limits, 61_999);
        assert_eq!(users.states.len(), 1);
        users.expire(&limits, 120_000);
        assert!(users.states.is_empty() && users.leaving.is_empty());
    }

    #[test]
    fn a_user_is_small() {
        assert_eq!(size_of::<(UserId, State)>(), 32);
    }

    #[test]
    fn the_rate_outlives_the_session() {
        let user = UserId::from_u128(1);
        let limits = Limits::default();
        let mut users = Users::default();
        assert_eq!(users.open_session(user, &limits, 0), Ok(()));
        for _ in 0..limits.message.count {
            assert_eq!(
                users.count_message(user, limits.message, 10),
                RateState::Counted
            );
        }
        users.close_session(user, 20);
        assert_eq!(users.open_session(user, &limits, 30), Ok(()));
        let over = RateState::Over {
            retry_after_ms: 5_024, // 10 ms are 64, rounded up.
        };
        assert_eq!(users.count_message(user, limits.message, 40), over);
        users.give_back(user);
        assert_eq!(
            users.count_message(user, limits.message, 40),
            RateState::Counted
        );
    }
}
