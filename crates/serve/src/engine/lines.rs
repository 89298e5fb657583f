//! Who waits: a line for each client, and the clients take turns.

use std::{
    collections::{HashMap, VecDeque},
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
};

use koan_files::digest;

/// Whose request it is: the address that it comes from, and the key that it has. Of an IPv6 address the network counts (64 bits), which is
/// one subscriber's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Client {
    address: u128,
    key: u64,
}

impl Client {
    /// Who has this address and, if one was given, this key.
    pub(crate) fn new(address: IpAddr, key: Option<&str>) -> Self {
        let address = match address.to_canonical() {
            IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
            IpAddr::V6(address) => address.to_bits() >> 64 << 64,
        };
        let key = key.map_or(0, |key| {
            let [a, b, c, d, e, f, g, h, ..] = digest(key);
            u64::from_le_bytes([a, b, c, d, e, f, g, h])
        });
        Self { address, key }
    }
}

/// Lines of what waits: one for each client that has something in it, in the order of their turns.
pub(super) struct Lines<T>(VecDeque<(Client, VecDeque<T>)>);

impl<T> Lines<T> {
    pub(super) fn new() -> Self {
        Self(VecDeque::new())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.0.iter().flat_map(|(_, line)| line)
    }

    /// Puts `item` at the end of its client's line; a client that had none has its turn after the others.
    pub(super) fn push(&mut self, client: Client, item: T) {
        match self.0.iter_mut().find(|(other, _)| *other == client) {
            Some((_, line)) => line.push_back(item),
            None => self.0.push_back((client, VecDeque::from([item]))),
        }
    }

    /// What is first in the line whose turn it is. Its client has the next turn after all others.
    pub(super) fn pop(&mut self) -> Option<(Client, T)> {
        let (client, mut line) = self.0.pop_front()?;
        let item = line.pop_front()?;
        if !line.is_empty() {
            self.0.push_back((client, line));
        }
        Some((client, item))
    }

    /// Puts back what was popped last.
    pub(super) fn put_back(&mut self, client: Client, item: T) {
        let at = self.0.iter().position(|(other, _)| *other == client);
        let mut line = at.and_then(|at| self.0.remove(at)).map(|(_, line)| line).unwrap_or_default();
        line.push_front(item);
        self.0.push_front((client, line));
    }

    /// What `wanted` finds in the line of `client`, from its end.
    pub(super) fn take_last(&mut self, client: Client, wanted: impl Fn(&T) -> bool) -> Option<T> {
        let at = self.0.iter().position(|(other, _)| *other == client)?;
        let line = &mut self.0[at].1;
        let found = line.iter().rposition(wanted)?;
        let item = line.remove(found);
        if line.is_empty() {
            self.0.remove(at);
        }
        item
    }

    pub(super) fn retain(&mut self, mut keep: impl FnMut(&T) -> bool) {
        self.0.iter_mut().for_each(|(_, line)| line.retain(&mut keep));
        self.0.retain(|(_, line)| !line.is_empty());
    }

    pub(super) fn drain(&mut self) -> impl Iterator<Item = T> {
        self.0.drain(..).flat_map(|(_, line)| line)
    }
}

/// Places for requests that wait. When all are taken, a client that waits with fewer than another gets one nevertheless, and the last request
/// of the one that waits with the most is turned away.
#[derive(Debug)]
pub(crate) struct Places {
    limit: usize,
    taken: Mutex<HashMap<Client, usize>>,
}

impl Places {
    pub(crate) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { limit, taken: Mutex::default() })
    }

    /// A place for `client`, if there is one.
    pub(crate) fn take(self: &Arc<Self>, client: Client) -> Option<Ticket> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let own = taken.get(&client).copied().unwrap_or(0);
        let is_full = taken.values().sum::<usize>() >= self.limit;
        if is_full && taken.values().max().is_none_or(|most| own + 1 >= *most) {
            return None;
        }
        taken.insert(client, own + 1);
        Some(Ticket { places: Arc::clone(self), client })
    }

    /// Who waits with the most requests, if more wait than there are places.
    pub(super) fn surplus(&self) -> Option<Client> {
        let taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let is_over = taken.values().sum::<usize>() > self.limit;
        let most = taken.iter().max_by_key(|(_, n)| **n).map(|(client, _)| *client);
        most.filter(|_| is_over)
    }

    pub(crate) fn limit(&self) -> usize {
        self.limit
    }
}

/// A place, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Ticket {
    places: Arc<Places>,
    client: Client,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = taken.get_mut(&self.client) {
            *own -= 1;
            if *own == 0 {
                taken.remove(&self.client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(name: &str) -> Client {
        Client::new(IpAddr::from([127, 0, 0, 1]), Some(name))
    }

    #[test]
    fn a_client_is_its_address_and_its_key() {
        let of = |address: &str, key| Client::new(address.parse().expect("an address"), key);
        assert_eq!(of("10.0.0.1", None), of("::ffff:10.0.0.1", None));
        assert_ne!(of("10.0.0.1", None), of("10.0.0.2", None));
        assert_ne!(of("10.0.0.1", Some("a")), of("10.0.0.1", Some("b")));
        assert_eq!(of("2001:db8::1", None), of("2001:db8::ffff:2", None), "one network");
        assert_ne!(of("2001:db8::1", None), of("2001:db8:0:1::1", None));
    }

    #[test]
    fn one_request_of_a_client_comes_after_one_of_another_that_sent_five_hundred() {
        let (many, one) = (client("many"), client("one"));
        let mut lines = Lines::new();
        (0..500).for_each(|i| lines.push(many, i));
        lines.push(one, 1000);
        let order: Vec<i32> = std::iter::from_fn(|| lines.pop()).map(|(_, item)| item).collect();
        assert_eq!(order[..4], [0, 1000, 1, 2]);
        assert_eq!(order.len(), 501);
        assert!(lines.is_empty());
    }

    #[test]
    fn clients_take_turns_and_each_has_its_own_order() {
        let [a, b, c] = ["a", "b", "c"].map(client);
        let mut lines = Lines::new();
        for (who, item) in [(a, "a1"), (a, "a2"), (b, "b1"), (a, "a3"), (c, "c1"), (b, "b2")] {
            lines.push(who, item);
        }
        let mut next = || lines.pop().expect("one");
        assert_eq!([next().1, next().1, next().1, next().1], ["a1", "b1", "c1", "a2"]);
        let (who, item) = lines.pop().expect("b2");
        lines.put_back(who, item);
        assert_eq!(lines.iter().copied().collect::<Vec<_>>(), ["b2", "a3"]);
        lines.push(b, "b3");
        assert_eq!(lines.take_last(b, |item| *item != "b3"), Some("b2"));
        assert_eq!(lines.take_last(c, |_| true), None, "none of its own");
        lines.retain(|item| *item == "b3");
        assert_eq!(lines.drain().collect::<Vec<_>>(), ["b3"]);
        assert!(lines.is_empty());
    }

    #[test]
    fn who_fills_the_queue_makes_room_for_others() {
        let [many, one, other] = ["many", "one", "other"].map(client);
        let places = Places::new(4);
        let mut of_many: Vec<Ticket> = (0..4).filter_map(|_| places.take(many)).collect();
        assert_eq!((of_many.len(), places.surplus()), (4, None));
        assert!(places.take(many).is_none(), "it has all");
        let first = places.take(one).expect("a place");
        assert_eq!(places.surplus(), Some(many));
        of_many.pop();
        assert_eq!(places.surplus(), None);
        let second = places.take(one).expect("3 and 1");
        of_many.pop();
        assert!(places.take(one).is_none(), "two of each");
        let third = places.take(other).expect("it waits with fewer than the others");
        assert!(places.surplus().is_some_and(|client| client != other));
        drop((first, second, third, of_many));
        let all: Vec<Ticket> = (0..9).filter_map(|_| places.take(one)).collect();
        assert_eq!(all.len(), 4, "places are given back");
    }
}
