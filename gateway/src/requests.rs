//! The requests of this shard's sessions that have not been answered.
//!
//! A request reserves the place of its answer: as many answers can be on their way to this shard
//! as there are places here, and no more.
//!
//! Invariant: a place is given to the next request only after its answer has come.

use crate::io::ConnId;
use crate::lane::RequestId;
use crate::shard::Purpose;

/// A table of bounded size.
#[derive(Debug)]
pub(crate) struct Requests {
    places: Vec<Option<(ConnId, Purpose)>>,
    free: Vec<u32>,
    places_max: usize,
}

impl Requests {
    /// A table of at most `places_max` requests.
    pub(crate) fn new(places_max: usize) -> Self {
        Self {
            places: Vec::new(),
            free: Vec::new(),
            places_max,
        }
    }

    /// Whether a place can be reserved.
    pub(crate) fn has_room(&self) -> bool {
        !self.free.is_empty() || self.places.len() < self.places_max
    }

    /// Reserves a place; `None` when all are taken.
    pub(crate) fn open(&mut self, conn: ConnId, purpose: Purpose) -> Option<RequestId> {
        let place = match self.free.pop() {
            Some(place) => place,
            None if self.places.len() < self.places_max => {
                self.places.push(None);
                u32::try_from(self.places.len() - 1).ok()?
            }
            None => return None,
        };
        self.places[place as usize] = Some((conn, purpose));
        Some(RequestId(place))
    }

    /// The answer has come: whose request it was, and what for.
    pub(crate) fn close(&mut self, request: RequestId) -> (ConnId, Purpose) {
        let opened = self.places[request.0 as usize]
            .take()
            .expect("a request is answered once");
        self.free.push(request.0);
        opened
    }
}
