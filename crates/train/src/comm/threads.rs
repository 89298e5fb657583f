//! Ranks that are threads of one process: for tests, and to see what ranks cost without a network.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
};

use super::{Comm, CommError, Ranks};

/// What threads have sent, and who has ended.
#[derive(Default)]
struct Post {
    /// By sender and receiver.
    sent: HashMap<(usize, usize), VecDeque<Vec<u8>>>,
    ended: Option<(usize, String)>,
}

struct Thread {
    rank: usize,
    ranks: usize,
    post: Arc<(Mutex<Post>, Condvar)>,
}

/// So many ranks, a power of two, each to be moved to a thread of its own.
///
/// # Panics
/// If it is none.
pub fn threads(ranks: usize) -> Vec<Ranks> {
    let post: Arc<(Mutex<Post>, Condvar)> = Arc::default();
    let thread = |rank| Ranks::new(Arc::new(Thread { rank, ranks, post: Arc::clone(&post) }));
    (0..ranks).map(|rank| thread(rank).expect("a power of two")).collect()
}

impl Thread {
    fn post(&self) -> MutexGuard<'_, Post> {
        self.post.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Comm for Thread {
    fn rank(&self) -> usize {
        self.rank
    }

    fn ranks(&self) -> usize {
        self.ranks
    }

    fn exchange(&self, peer: usize, send: Vec<u8>, receive: usize) -> Result<Vec<u8>, CommError> {
        let mut post = self.post();
        post.sent.entry((self.rank, peer)).or_default().push_back(send);
        self.post.1.notify_all();
        loop {
            if let Some(received) = post.sent.entry((peer, self.rank)).or_default().pop_front() {
                let (came, wanted) = (received.len(), receive);
                let wrong =
                    || CommError::Transport(format!("rank {peer} sent {came} bytes, and not {wanted}"));
                return (came == wanted).then_some(received).ok_or_else(wrong);
            }
            if let Some((rank, why)) = &post.ended {
                return Err(CommError::Ended { rank: *rank, why: why.clone() });
            }
            post = self.post.1.wait(post).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn end(&self, why: &str) {
        self.post().ended.get_or_insert_with(|| (self.rank, why.to_owned()));
        self.post.1.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What each of so many ranks makes of `work`.
    fn on<T: Send>(ranks: usize, work: impl Fn(&Ranks) -> T + Sync) -> Vec<T> {
        std::thread::scope(|scope| {
            let run = |ranks: Ranks| {
                scope.spawn(|| {
                    let ranks = ranks;
                    work(&ranks)
                })
            };
            let all: Vec<_> = threads(ranks).into_iter().map(run).collect();
            all.into_iter().map(|thread| thread.join().expect("no panic")).collect()
        })
    }

    #[test]
    fn what_is_gathered_comes_in_the_order_of_ranks() {
        for ranks in [1, 2, 8] {
            let own = |r: &Ranks| "é\n".repeat(r.rank());
            let expected: Vec<String> = (0..ranks).map(|rank| "é\n".repeat(rank)).collect();
            let all = on(ranks, |r| r.all_gather::<String>(&own(r)));
            assert!(all.iter().all(|all| *all == Ok(expected.clone())));
            let first = on(ranks, |r| r.gather::<String>(&own(r)).expect("gathered"));
            assert_eq!(first[0], expected);
            assert!(first[1..].iter().all(Vec::is_empty));
            let said = on(ranks, |r| r.broadcast(Some(r.rank() + 7)));
            assert!(said.iter().all(|said| *said == Ok(7)));
            let counts = on(ranks, |r| r.count([1, r.rank()]).expect("counted"));
            assert!(counts.iter().all(|n| *n == [ranks, ranks * (ranks - 1) / 2]));
        }
    }

    #[test]
    fn who_waits_for_a_rank_that_has_ended_is_told_so() {
        let ended = on(4, |ranks| match ranks.rank() {
            2 => {
                ranks.end("no disk");
                Ok(())
            }
            _ => ranks.meet(),
        });
        let said = ended.into_iter().filter_map(|ended| Some(ended.err()?.to_string()));
        assert_eq!(said.collect::<Vec<_>>(), ["rank 2 has ended: no disk"; 3]);
    }

    #[test]
    fn who_waited_knows_how_long() {
        let waited = on(2, |ranks| {
            ranks.meet().expect("met");
            [ranks.take_waited(), ranks.take_waited()]
        });
        assert!(waited.iter().all(|[waited, again]| *waited > 0.0 && *again == 0.0), "{waited:?}");
    }
}
