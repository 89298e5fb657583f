//! Ranks that are processes which `mpirun` or `srun` started, on MPI.
//!
//! A thread of its own owns MPI, so that it hears of others while this process computes: of one that ends, and of one that says
//! nothing any more. It sleeps when there is nothing to do.

use std::{
    sync::{
        Mutex, PoisonError,
        mpsc::{self, Receiver, RecvTimeoutError, Sender},
    },
    thread,
    time::{Duration, Instant},
};

use mpi::{
    Tag, Threading,
    environment::Universe,
    point_to_point::{Destination as _, Source as _},
    topology::{Communicator as _, SimpleCommunicator},
};

use super::{Comm, CommError};

/// What messages are: parts of an exchange, why a rank ends, and that a rank is there.
const PART: Tag = 1;
const END: Tag = 2;
const BEAT: Tag = 3;

/// Most bytes of a message: MPI counts them in 31 bits.
const MOST: usize = 1 << 30;
/// Bytes from which on a message is long.
const LONG: usize = 1 << 16;
/// Most bytes of the reason why a rank ends: such messages need nobody who awaits them.
const MOST_WORDS: usize = 1000;
/// How often it is looked whether a message has come, and whether others are there.
const EVERY: Duration = Duration::from_micros(20);
const LOOK_EVERY: Duration = Duration::from_millis(50);
const IDLE: Duration = Duration::from_millis(100);
/// How often a rank says that it is there, and when it is given up. Time in which this process itself was stopped does not count.
const BEAT_EVERY: Duration = Duration::from_secs(1);
const GIVEN_UP_AFTER: Duration = Duration::from_secs(20);
/// What this process has to end by itself, when another has ended.
const GRACE: Duration = Duration::from_secs(3);

/// A process that MPI knows.
pub struct Mpi {
    rank: usize,
    ranks: usize,
    orders: Mutex<Sender<Order>>,
}

/// Whom to tell what came of an exchange.
type Done = Sender<Result<Vec<u8>, CommError>>;

/// A request to the thread that owns MPI, and where it sends the result.
enum Order {
    Exchange { peer: usize, send: Vec<u8>, receive: usize, done: Done },
    End { why: String, done: Sender<()> },
    Finish { done: Sender<()> },
}

impl Mpi {
    /// Joins the processes that were started together. `on_end` is called when another has ended and this one has not noticed;
    /// then the process ends.
    ///
    /// # Errors
    /// If MPI can't be used.
    pub fn join(on_end: impl Fn(&CommError) + Send + 'static) -> Result<Self, CommError> {
        let (orders, taken) = mpsc::channel();
        let (started, start) = mpsc::channel();
        thread::Builder::new()
            .name("mpi".into())
            .spawn(move || {
                let Some((universe, _)) = mpi::initialize_with_threading(Threading::Funneled) else { return };
                let world = universe.world();
                let _ = started.send([world.rank(), world.size()].map(|n| n as usize)); // it is waited for
                Thread { universe, world, watch: Watch::new(), on_end }.serve(&taken);
            })
            .map_err(|e| CommError::Transport(format!("no thread for MPI: {e}")))?;
        let [rank, ranks] =
            start.recv().map_err(|_| CommError::Transport("MPI was not initialized".into()))?;
        Ok(Self { rank, ranks, orders: Mutex::new(orders) })
    }

    /// Gives an order, and waits until it is done.
    fn order<T>(&self, order: impl FnOnce(Sender<T>) -> Order) -> Result<T, CommError> {
        let gone = || CommError::Transport("MPI has ended".into());
        let (done, wait) = mpsc::channel();
        let orders = self.orders.lock().unwrap_or_else(PoisonError::into_inner);
        orders.send(order(done)).map_err(|_| gone())?;
        wait.recv().map_err(|_| gone())
    }
}

impl Comm for Mpi {
    fn rank(&self) -> usize {
        self.rank
    }

    fn ranks(&self) -> usize {
        self.ranks
    }

    fn exchange(&self, peer: usize, send: Vec<u8>, receive: usize) -> Result<Vec<u8>, CommError> {
        self.order(|done| Order::Exchange { peer, send, receive, done })?
    }

    fn end(&self, why: &str) {
        let why = why.to_owned();
        let _ = self.order(|done| Order::End { why, done }); // the process ends in any case
    }

    fn finish(&self) {
        let _ = self.order(|done| Order::Finish { done }); // nothing is left to be said
    }
}

/// The thread that owns MPI.
struct Thread<F> {
    universe: Universe,
    world: SimpleCommunicator,
    watch: Watch,
    on_end: F,
}

impl<F: Fn(&CommError)> Thread<F> {
    fn serve(mut self, orders: &Receiver<Order>) {
        loop {
            match orders.recv_timeout(IDLE) {
                Ok(Order::Exchange { peer, send, receive, done }) => {
                    let received = self.exchange(peer as i32, &send, receive, &done);
                    let _ = done.send(Ok(received)); // it is waited for
                }
                Ok(Order::End { why, done }) => {
                    say_end(&self.world, &why);
                    let _ = done.send(());
                }
                Ok(Order::Finish { done }) => {
                    while hear(&self.world, BEAT).is_some() {} // MPI ends with nothing left to be heard
                    drop(self.universe);
                    let _ = done.send(());
                    return;
                }
                Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => {
                    if let Some(ended) = self.watch.look(&self.world) {
                        end(&self.world, &self.on_end, &ended, None);
                    }
                }
            }
        }
    }

    /// Exchanges in parts that MPI can count.
    fn exchange(&mut self, peer: i32, send: &[u8], receive: usize, done: &Done) -> Vec<u8> {
        let mut received = vec![0; receive];
        let parts = send.len().max(receive).div_ceil(MOST).max(1);
        for part in 0..parts {
            let of = |len: usize| (part * MOST).min(len)..((part + 1) * MOST).min(len);
            self.exchange_part(peer, &send[of(send.len())], &mut received[of(receive)], done);
        }
        received
    }

    fn exchange_part(&mut self, peer: i32, send: &[u8], receive: &mut [u8], done: &Done) {
        let Self { world, watch, on_end, .. } = self;
        let peer = world.process_at_rank(peer);
        let is_long = send.len().max(receive.len()) >= LONG;
        mpi::request::scope(|scope| {
            let mut receiving = Some(peer.immediate_receive_into_with_tag(scope, receive, PART));
            let mut sending = Some(peer.immediate_send_with_tag(scope, send, PART));
            loop {
                receiving = receiving.and_then(|request| request.test().err());
                sending = sending.and_then(|request| request.test().err());
                if receiving.is_none() && sending.is_none() {
                    return;
                }
                if let Some(ended) = watch.look(world) {
                    end(world, on_end, &ended, Some(done));
                }
                // Who sends much has met the other before: neither waits long, and both have to help MPI along.
                if is_long { thread::yield_now() } else { thread::sleep(EVERY) }
            }
        });
    }
}

/// Another has ended: so does this process, by itself if it awaits something, or else here.
fn end(
    world: &SimpleCommunicator,
    on_end: &impl Fn(&CommError),
    ended: &CommError,
    done: Option<&Done>,
) -> ! {
    if let Some(done) = done {
        let _ = done.send(Err(ended.clone())); // it is waited for
        thread::sleep(GRACE);
    }
    on_end(ended);
    world.abort(1)
}

/// Who is there.
struct Watch {
    looked: Instant,
    said: Instant,
    /// For how long the rank before this one has said nothing.
    silence: Duration,
}

impl Watch {
    fn new() -> Self {
        let now = Instant::now();
        Self { looked: now, said: now, silence: Duration::ZERO }
    }

    /// Says now and then that this rank is there, and looks whether others are.
    fn look(&mut self, world: &SimpleCommunicator) -> Option<CommError> {
        let passed = self.looked.elapsed();
        if passed < LOOK_EVERY {
            return None;
        }
        self.looked += passed;
        // While this process itself was stopped, nobody could be heard.
        self.silence += passed.min(BEAT_EVERY);
        let ranks = world.size();
        if self.said.elapsed() >= BEAT_EVERY {
            self.said = Instant::now();
            world.process_at_rank((world.rank() + 1) % ranks).send_with_tag(&[0u8][..], BEAT);
        }
        while hear(world, BEAT).is_some() {
            self.silence = Duration::ZERO;
        }
        if let Some((rank, why)) = hear(world, END) {
            return Some(CommError::Ended { rank, why: String::from_utf8_lossy(&why).into_owned() });
        }
        let before = ((world.rank() + ranks - 1) % ranks) as usize;
        let why = || format!("it has said nothing for {} s", GIVEN_UP_AFTER.as_secs());
        (self.silence > GIVEN_UP_AFTER).then(|| CommError::Ended { rank: before, why: why() })
    }
}

/// Tells all others why this rank ends.
fn say_end(world: &SimpleCommunicator, why: &str) {
    let why = &why.as_bytes()[..why.len().min(MOST_WORDS)];
    for rank in (0..world.size()).filter(|&rank| rank != world.rank()) {
        world.process_at_rank(rank).send_with_tag(why, END);
    }
    thread::sleep(GRACE / 3); // they say so too, before their launcher ends them
}

/// A message of this kind, if there is one, and whose it is.
fn hear(world: &SimpleCommunicator, tag: Tag) -> Option<(usize, Vec<u8>)> {
    let from = world.any_process().immediate_probe_with_tag(tag)?.source_rank();
    let (message, _) = world.process_at_rank(from).receive_vec_with_tag(tag);
    Some((from as usize, message))
}
