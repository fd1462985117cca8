//! A shop that changes its orders: Debezium events, and the rows they must come to.
//!
//! The same options give the same changes. The expected rows are kept by plain assignment, not by
//! anything that the pipeline uses.

use std::collections::BTreeMap;

use super::event::{Moment, Writer};

pub use super::event::Event;

/// The topic of the demonstration.
pub const TOPIC: &str = "shop.public.orders";

/// Below this many rows the shop only grows.
const ROWS_MIN: u64 = 50;

/// One order as the shop knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// Who ordered.
    pub customer: String,
    /// Where it stands.
    pub status: &'static str,
    /// Amount in cents.
    pub total_cents: i64,
    /// When, microseconds since the epoch.
    pub ordered_at: i64,
    /// Words on it.
    pub tags: Vec<String>,
    /// Free text, or none.
    pub note: Option<String>,
}

/// How often the shop does what, in percent; the rest are deletes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mix {
    /// New orders.
    pub inserts: u64,
    /// Changes of orders.
    pub updates: u64,
}

/// How the shop behaves.
#[derive(Debug, Clone, Copy)]
pub struct ShopOptions {
    /// Of everything that looks random.
    pub seed: u64,
    /// What happens how often.
    pub mix: Mix,
    /// Most orders there are at a time; where an insert would make more, an order changes instead.
    pub rows_max: u64,
    /// Whether each event carries its schema.
    pub with_schema: bool,
}

impl Default for ShopOptions {
    fn default() -> Self {
        let mix = Mix { inserts: 45, updates: 45 };
        Self { seed: 1, mix, rows_max: u64::MAX, with_schema: true }
    }
}

/// Makes changes one after another.
pub struct Generator {
    random: Random,
    mix: Mix,
    rows_max: u64,
    orders: BTreeMap<i64, Order>,
    next_id: i64,
    now: Moment,
    writer: Writer,
}

/// What has just happened to an order.
enum Change {
    Inserted(i64),
    Updated(i64),
    Deleted(i64),
}

/// xorshift64*: enough for a demonstration, the same everywhere.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % bound
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len() as u64) as usize]
    }
}

const CUSTOMERS: &[&str] = &["Ada", "Blaise", "Čapek", "Dürer", "Émilie", "Фёдор", "葛飾", "Grace"];
const STATUSES: &[&str] = &["open", "paid", "packed", "sent", "returned"];
const TAGS: &[&str] = &["gift", "express", "fragile", "b2b", "pick-up"];

impl Generator {
    /// Starts with an empty shop on 1 January 2026.
    pub fn new(options: &ShopOptions) -> Self {
        Self {
            random: Random(options.seed.max(1)),
            mix: options.mix,
            rows_max: options.rows_max.max(1),
            orders: BTreeMap::new(),
            next_id: 1,
            now: Moment { lsn: 24_000_000, clock_us: 1_767_225_600_000_000 },
            writer: Writer::new(options.with_schema),
        }
    }

    /// The rows that the table must hold now.
    pub fn expected(&self) -> &BTreeMap<i64, Order> {
        &self.orders
    }

    /// What happens how often from now on.
    pub fn set_mix(&mut self, mix: Mix) {
        self.mix = mix;
    }

    /// Lets changes happen of which no event is wanted.
    pub fn skip(&mut self, changes: u64) {
        for _ in 0..changes {
            self.step();
        }
    }

    /// The records of the next change: one, or two for a delete with its tombstone.
    pub fn change(&mut self) -> Vec<Event> {
        let event = |generator: &Self, op, id| {
            generator.writer.event(generator.now, op, id, generator.orders.get(&id))
        };
        match self.step() {
            Change::Inserted(id) => vec![event(self, "c", id)],
            Change::Updated(id) => vec![event(self, "u", id)],
            Change::Deleted(id) => vec![event(self, "d", id), self.writer.tombstone(id)],
        }
    }

    fn step(&mut self) -> Change {
        self.now.lsn += 56;
        self.now.clock_us += 1_000 + self.random.below(50_000) as i64;
        let (chance, rows) = (self.random.below(100), self.orders.len() as u64);
        let is_small = rows < ROWS_MIN.min(self.rows_max);
        if is_small || (chance < self.mix.inserts && rows < self.rows_max) {
            self.insert()
        } else if chance < self.mix.inserts + self.mix.updates {
            self.update()
        } else {
            self.delete()
        }
    }

    fn insert(&mut self) -> Change {
        let id = self.next_id;
        self.next_id += 1;
        let order = Order {
            customer: (*self.random.pick(CUSTOMERS)).to_owned(),
            status: "open",
            total_cents: 1 + self.random.below(5_000_000) as i64,
            ordered_at: self.now.clock_us,
            tags: self.tags(),
            note: None,
        };
        self.orders.insert(id, order);
        Change::Inserted(id)
    }

    fn update(&mut self) -> Change {
        let id = self.any();
        let status = *self.random.pick::<&'static str>(STATUSES);
        let tags = (self.random.below(4) == 0).then(|| self.tags());
        let order = self.orders.get_mut(&id).expect("an order of the shop");
        order.status = status;
        if let Some(tags) = tags {
            order.tags = tags;
            order.note = Some(format!("call {} \"before\" noon\n", order.customer));
        }
        Change::Updated(id)
    }

    fn delete(&mut self) -> Change {
        let id = self.any();
        self.orders.remove(&id);
        Change::Deleted(id)
    }

    fn any(&mut self) -> i64 {
        let from = self.random.below(self.next_id as u64) as i64;
        let found = self.orders.range(from..).next().or_else(|| self.orders.iter().next());
        *found.expect("the shop has orders").0
    }

    fn tags(&mut self) -> Vec<String> {
        let count = self.random.below(3);
        (0..count).map(|_| (*self.random.pick(TAGS)).to_owned()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_makes_the_same_shop() {
        let run = |seed| {
            let mut generator = Generator::new(&ShopOptions { seed, ..ShopOptions::default() });
            let changes: Vec<_> =
                (0..500).flat_map(|_| generator.change()).map(|e| e.value).collect();
            (changes, generator.orders)
        };
        assert_eq!(run(7), run(7));
        assert_ne!(run(7).1, run(8).1);
    }

    #[test]
    fn a_shop_goes_on_from_changes_that_were_skipped() {
        let options = ShopOptions { with_schema: false, ..ShopOptions::default() };
        let (mut whole, mut rest) = (Generator::new(&options), Generator::new(&options));
        whole.skip(0);
        (0..300).for_each(|_| drop(whole.change()));
        rest.skip(300);
        let value = |generator: &mut Generator| generator.change().remove(0).value;
        assert_eq!(value(&mut whole), value(&mut rest));
        assert_eq!(whole.orders, rest.orders);
    }

    #[test]
    fn a_full_shop_changes_orders_instead_of_taking_new_ones() {
        let mix = Mix { inserts: 100, updates: 0 };
        let options = ShopOptions { mix, rows_max: 10, ..ShopOptions::default() };
        let mut generator = Generator::new(&options);
        generator.set_mix(Mix { inserts: 50, updates: 50 });
        generator.skip(1_000);
        assert_eq!((generator.orders.len(), generator.next_id), (10, 11));
    }
}
