//! The counts of a running recording: for each layout the number of tensors live at once, alone and together with the
//! layouts that differ from it in one size only, and the sites that took them. A plan is made from these counts, so
//! that it is exact however long the program runs; they grow with the number of different layouts and sites, not with
//! time.

use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, Hash, Hasher};

use smallvec::SmallVec;

use super::event::Source;
use crate::layout::{Layout, LayoutHasher, Shape};
use crate::plan::{PlanRow, ReservationPlan};
use crate::purpose::Role;
use crate::stats::ReserveKind;

/// Minimum number of sizes of a growing dimension. Fewer are the different widths of a model.
const GROWING_SIZES: u32 = 8;

/// Bytes that a recording may still take.
pub(crate) struct Room {
    pub(crate) bytes: u64,
}

impl Room {
    /// Makes room in a list for one more item, if the bytes are allowed and available.
    pub(crate) fn for_one_more<T>(&mut self, list: &mut Vec<T>) -> bool {
        if list.len() < list.capacity() {
            return true;
        }
        let more = list.capacity().max(16);
        let bytes = (more * size_of::<T>()) as u64;
        let is_granted = bytes <= self.bytes && list.try_reserve_exact(more).is_ok();
        if is_granted {
            self.bytes -= bytes;
        }
        is_granted
    }

    /// [`Room::for_one_more`] for a map.
    pub(crate) fn for_one_more_in<K: Eq + Hash, V, S: BuildHasher>(&mut self, map: &mut HashMap<K, V, S>) -> bool {
        if map.len() < map.capacity() {
            return true;
        }
        let before = map_bytes(map);
        // Capacity doubles, starting with four places.
        let bytes = before.max(4 * (size_of::<(K, V)>() as u64 + 1));
        let is_granted = bytes <= self.bytes && map.try_reserve(map.capacity().max(1)).is_ok();
        if is_granted {
            self.bytes -= (map_bytes(map) - before).min(self.bytes);
        }
        is_granted
    }
}

/// Bytes of a list.
pub(crate) fn list_bytes<T>(list: &Vec<T>) -> u64 {
    (list.capacity() * size_of::<T>()) as u64
}

/// Bytes of a map: an entry and a control byte for each place, of which an eighth stays free.
pub(crate) fn map_bytes<K, V, S>(map: &HashMap<K, V, S>) -> u64 {
    ((map.capacity() * 8).div_ceil(7) * (size_of::<(K, V)>() + 1)) as u64
}

/// Distinct items in order of insertion, found by hash.
#[derive(Debug, Clone)]
struct Table<T> {
    items: Vec<T>,
    /// Item indices by hash. On a collision the later item has the next free key.
    index: HashMap<u64, u32, BuildHasherDefault<LayoutHasher>>,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Table { items: Vec::new(), index: HashMap::default() }
    }
}

impl<T> Table<T> {
    /// The index of the item that `is` matches, created if missing; `None` if there is no room for it.
    fn find_or_add(
        &mut self,
        room: &mut Room,
        hash: u64,
        is: impl Fn(&T) -> bool,
        make: impl FnOnce() -> T,
    ) -> Option<u32> {
        let mut hash = hash;
        while let Some(&at) = self.index.get(&hash) {
            if is(&self.items[at as usize]) {
                return Some(at);
            }
            hash = hash.wrapping_add(1);
        }
        let at = u32::try_from(self.items.len()).ok()?;
        if !room.for_one_more(&mut self.items) || !room.for_one_more_in(&mut self.index) {
            return None;
        }
        self.items.push(make());
        self.index.insert(hash, at);
        Some(at)
    }

    fn bytes(&self) -> u64 {
        list_bytes(&self.items) + map_bytes(&self.index)
    }
}

fn hash_of(what: impl Hash) -> u64 {
    let mut hasher = LayoutHasher::default();
    what.hash(&mut hasher);
    hasher.finish()
}

/// The number of live tensors, and its maximum.
#[derive(Debug, Clone, Copy, Default)]
struct Level {
    now: u32,
    most: u32,
}

impl Level {
    fn rise(&mut self) {
        self.now += 1;
        self.most = self.most.max(self.now);
    }

    fn fall(&mut self) {
        self.now = self.now.saturating_sub(1);
    }
}

/// The counted properties of a tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Kind {
    pub(crate) role: Role,
    pub(crate) source: Source,
}

impl Kind {
    fn is_hit(self) -> bool {
        matches!(self.source, Source::Reserve | Source::Arena)
    }

    /// Whether a reservation would have served it; parameters never count.
    pub(crate) fn is_miss(self) -> bool {
        matches!(self.source, Source::Pool | Source::Device) && self.role != Role::Learnable
    }
}

/// Subsets of all tensors for which plans are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// All tensors.
    All,
    /// Tensors that an arena does not serve: caches and parameters.
    Staying,
    /// Activations that no reservation served.
    Missed,
}

/// A layout, and the counts of its tensors.
#[derive(Debug, Clone)]
struct LayoutCount {
    layout: Layout,
    /// Tensors other than parameters; the caches among them; the missed activations; the parameters.
    exact: Level,
    cache: Level,
    missed: Level,
    learnable: Level,
    takes: u64,
    hits: u64,
    misses: u64,
    /// Its families, in the order of the ways to grow; empty while it has been a parameter only.
    families: SmallVec<[u32; 6]>,
}

/// Layouts that differ only along one axis, or along two that always have the same size (attention's scores, `[h, n,
/// n]`).
#[derive(Debug, Clone)]
struct Family {
    /// One of its layouts.
    first: u32,
    axis: u8,
    twin: Option<u8>,
    exact: FamilyLevel,
    missed: FamilyLevel,
}

/// The tensors of a family.
#[derive(Debug, Clone, Copy, Default)]
struct FamilyLevel {
    live: Level,
    /// Number of layouts.
    members: u32,
    /// Maximum size along the axis.
    largest: usize,
}

/// A site: an operation at a place in the program, for one layout.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct SiteCount {
    pub(crate) layout: u32,
    pub(crate) op: &'static str,
    pub(crate) location: u64,
    pub(crate) takes: u64,
}

/// The counts.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tally {
    layouts: Table<LayoutCount>,
    families: Table<Family>,
    sites: Table<SiteCount>,
}

impl PartialEq for Tally {
    fn eq(&self, other: &Self) -> bool {
        let counts = |tally: &Tally| tally.layouts().map(|row| (row.layout.clone(), row.takes)).collect::<Vec<_>>();
        self.sites.items == other.sites.items && counts(self) == counts(other)
    }
}

/// The counts of one layout.
pub(crate) struct LayoutRow<'a> {
    pub(crate) layout: &'a Layout,
    pub(crate) takes: u64,
    pub(crate) hits: u64,
    pub(crate) misses: u64,
    pub(crate) most_live: u64,
}

impl Tally {
    /// Counts a take. Returns its site; `None` if there is no room for its counts.
    pub(crate) fn take(
        &mut self,
        room: &mut Room,
        layout: &Layout,
        op: &'static str,
        location: u64,
        kind: Kind,
    ) -> Option<u32> {
        let at = self.layout(room, layout)?;
        let is_site = |site: &SiteCount| {
            site.layout == at && site.location == location && (std::ptr::eq(site.op, op) || site.op == op)
        };
        let make = || SiteCount { layout: at, op, location, takes: 0 };
        let site = self.sites.find_or_add(room, hash_of((at, op.len(), location)), is_site, make)?;
        if kind.role != Role::Learnable && self.layouts.items[at as usize].families.is_empty() {
            self.join_families(room, at)?;
        }
        self.sites.items[site as usize].takes += 1;
        let count = &mut self.layouts.items[at as usize];
        count.takes += 1;
        count.hits += u64::from(kind.is_hit());
        count.misses += u64::from(kind.is_miss());
        if kind.source != Source::File {
            self.rise(at, kind);
        }
        Some(site)
    }

    /// The index of a layout.
    pub(crate) fn layout(&mut self, room: &mut Room, layout: &Layout) -> Option<u32> {
        let make = || LayoutCount {
            layout: layout.clone(),
            exact: Level::default(),
            cache: Level::default(),
            missed: Level::default(),
            learnable: Level::default(),
            takes: 0,
            hits: 0,
            misses: 0,
            families: SmallVec::new(),
        };
        self.layouts.find_or_add(room, hash_of(layout), |count| count.layout == *layout, make)
    }

    /// Adds a layout to every family that it may grow in.
    fn join_families(&mut self, room: &mut Room, at: u32) -> Option<()> {
        let layout = self.layouts.items[at as usize].layout.clone();
        let mut families = SmallVec::new();
        for (axis, twin) in ways(layout.shape()) {
            let is_family = |family: &Family| {
                let first = &self.layouts.items[family.first as usize].layout;
                (family.axis, family.twin) == (axis, twin) && differ_along(first, &layout, axis, twin)
            };
            let fixed = layout.shape().iter().enumerate().filter(|(i, _)| !grows(*i, axis, twin));
            let hash = hash_of((
                layout.dtype(),
                axis,
                twin.map_or(0, |twin| twin + 1),
                fixed.map(|(_, dim)| *dim).collect::<Shape>(),
            ));
            let (exact, missed) = (FamilyLevel::default(), FamilyLevel::default());
            let make = || Family { first: at, axis, twin, exact, missed };
            families.push(self.families.find_or_add(room, hash, is_family, make)?);
        }
        self.layouts.items[at as usize].families = families;
        Some(())
    }

    /// Counts a live tensor.
    fn rise(&mut self, at: u32, kind: Kind) {
        let count = &mut self.layouts.items[at as usize];
        if kind.role == Role::Learnable {
            return count.learnable.rise();
        }
        let is_missed = kind.role == Role::Activation && kind.is_miss();
        if kind.role == Role::Cache {
            count.cache.rise();
        }
        for &family in &count.families {
            let family = &mut self.families.items[family as usize];
            let size = count.layout.shape()[family.axis as usize];
            family.exact.rise(size, count.exact.most == 0);
            if is_missed {
                family.missed.rise(size, count.missed.most == 0);
            }
        }
        count.exact.rise();
        if is_missed {
            count.missed.rise();
        }
    }

    /// Counts the end of a tensor of this site.
    pub(crate) fn give_back(&mut self, site: u32, kind: Kind) {
        if kind.source == Source::File {
            return;
        }
        let count = &mut self.layouts.items[self.sites.items[site as usize].layout as usize];
        if kind.role == Role::Learnable {
            return count.learnable.fall();
        }
        let is_missed = kind.role == Role::Activation && kind.is_miss();
        if kind.role == Role::Cache {
            count.cache.fall();
        }
        count.exact.fall();
        if is_missed {
            count.missed.fall();
        }
        for &family in &count.families {
            let family = &mut self.families.items[family as usize];
            family.exact.live.fall();
            if is_missed {
                family.missed.live.fall();
            }
        }
    }

    /// The site with this index.
    pub(crate) fn site(&self, at: u32) -> Option<(&Layout, &SiteCount)> {
        let site = self.sites.items.get(at as usize)?;
        Some((&self.layouts.items.get(site.layout as usize)?.layout, site))
    }

    pub(crate) fn sites(&self) -> impl Iterator<Item = (&Layout, &SiteCount)> {
        (0..self.sites.items.len() as u32).filter_map(|at| self.site(at))
    }

    /// The layout with this index.
    pub(crate) fn layout_at(&self, at: u32) -> Option<&Layout> {
        self.layouts.items.get(at as usize).map(|count| &count.layout)
    }

    pub(crate) fn layouts(&self) -> impl Iterator<Item = LayoutRow<'_>> {
        self.layouts.items.iter().filter(|count| count.takes > 0).map(LayoutRow::of)
    }

    /// The reservations that serve a subset of the tensors: for each layout the maximum live at once. Families with
    /// many sizes become one bound.
    pub(crate) fn plan(&self, part: Part) -> ReservationPlan {
        let bounds = self.growing(part);
        let mut plan = ReservationPlan::default();
        for count in &self.layouts.items {
            let level = match part {
                Part::All => count.exact,
                Part::Staying => count.cache,
                Part::Missed => count.missed,
            };
            let is_joined = count.families.iter().any(|family| bounds.contains(family));
            let learnable = if part == Part::Missed { Level::default() } else { count.learnable };
            for (level, kind) in [(level, ReserveKind::Exact), (learnable, ReserveKind::Learnable)] {
                if level.most > 0 && !(is_joined && kind == ReserveKind::Exact) {
                    plan.rows.push(PlanRow { layout: count.layout.clone(), kind, count: level.most as usize });
                }
            }
        }
        plan.rows.extend(bounds.iter().filter_map(|&family| self.bound(family, part)));
        plan
    }

    /// The families that become a bound, in the order of their first layouts. A layout of several families counts for
    /// the first.
    fn growing(&self, part: Part) -> Vec<u32> {
        let mut growing: Vec<u32> = Vec::new();
        let mut is_growing = vec![false; self.families.items.len()];
        for count in &self.layouts.items {
            let is_there = |family: &&u32| {
                let level = self.families.items[**family as usize].level(part);
                level.is_some_and(|level| level.members >= GROWING_SIZES)
            };
            let is_member = match part {
                Part::All => count.exact.most > 0,
                Part::Staying => false,
                Part::Missed => count.missed.most > 0,
            };
            if !is_member || count.families.iter().any(|&family| is_growing[family as usize]) {
                continue;
            }
            if let Some(&family) = count.families.iter().find(is_there) {
                is_growing[family as usize] = true;
                growing.push(family);
            }
        }
        growing
    }

    /// The reservation that serves a whole family.
    fn bound(&self, family: u32, part: Part) -> Option<PlanRow> {
        let family = &self.families.items[family as usize];
        let level = family.level(part)?;
        let first = &self.layouts.items[family.first as usize].layout;
        let dims = first.shape().iter().enumerate();
        let dims = dims.map(|(i, &dim)| if grows(i, family.axis, family.twin) { level.largest } else { dim });
        let layout = Layout::new(first.dtype(), dims.collect::<Shape>());
        Some(PlanRow { layout, kind: ReserveKind::UpTo, count: level.live.most as usize })
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.layouts.bytes() + self.families.bytes() + self.sites.bytes()
    }
}

impl<'a> LayoutRow<'a> {
    fn of(count: &'a LayoutCount) -> LayoutRow<'a> {
        LayoutRow {
            layout: &count.layout,
            takes: count.takes,
            hits: count.hits,
            misses: count.misses,
            most_live: u64::from(count.exact.most) + u64::from(count.learnable.most),
        }
    }
}

impl Family {
    /// Caches are few: they are reserved individually.
    fn level(&self, part: Part) -> Option<&FamilyLevel> {
        match part {
            Part::All => Some(&self.exact),
            Part::Staying => None,
            Part::Missed => Some(&self.missed),
        }
    }
}

impl FamilyLevel {
    fn rise(&mut self, size: usize, is_new: bool) {
        self.live.rise();
        self.members += u32::from(is_new);
        self.largest = self.largest.max(size);
    }
}

/// The ways in which a layout of this shape may grow: along an axis, or along two of equal size.
fn ways(shape: &Shape) -> impl Iterator<Item = (u8, Option<u8>)> {
    // No tensor has that many dimensions.
    let rank = shape.len().min(64) as u8;
    let is_equal = move |axis: u8, twin: u8| shape[axis as usize] == shape[twin as usize];
    let pairs = (0..rank).flat_map(move |axis| (axis + 1..rank).map(move |twin| (axis, twin)));
    let pairs = pairs.filter(move |&(axis, twin)| is_equal(axis, twin)).map(|(axis, twin)| (axis, Some(twin)));
    (0..rank).map(|axis| (axis, None)).chain(pairs)
}

fn grows(i: usize, axis: u8, twin: Option<u8>) -> bool {
    i == axis as usize || twin.is_some_and(|twin| i == twin as usize)
}

/// Whether two layouts agree in all but these axes. Each has equal sizes along both.
fn differ_along(a: &Layout, b: &Layout, axis: u8, twin: Option<u8>) -> bool {
    let dims = || a.shape().iter().zip(b.shape().iter()).enumerate();
    a.dtype() == b.dtype()
        && a.shape().len() == b.shape().len()
        && dims().all(|(i, (a, b))| a == b || grows(i, axis, twin))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIND: Kind = Kind { role: Role::Activation, source: Source::Device };

    fn tally_of(layouts: impl Iterator<Item = (Vec<usize>, usize)>) -> Tally {
        let (mut tally, mut room) = (Tally::default(), Room { bytes: u64::MAX });
        for (dims, count) in layouts {
            let layout = Layout::from(dims);
            let take = |_| tally.take(&mut room, &layout, "test", 0, KIND).unwrap();
            let sites: Vec<u32> = (0..count).map(take).collect();
            sites.into_iter().for_each(|site| tally.give_back(site, KIND));
        }
        tally
    }

    #[test]
    fn sizes_that_grow_become_a_bound() {
        let grown = (1..=10).map(|n| (vec![8, n], 1 + n % 3)).chain([(vec![9, 3], 1)]);
        let check = |part, expected: &str| assert_eq!(tally_of(grown.clone()).plan(part).to_string(), expected);
        check(Part::All, "exact float16[9, 3] 1\nup_to float16[8, 10] 3\n");
        check(Part::Missed, "exact float16[9, 3] 1\nup_to float16[8, 10] 3\n");
        check(Part::Staying, "");
    }

    #[test]
    fn two_sizes_that_grow_together_become_a_bound() {
        // Many layouts of one rank are no family.
        let others = (1..=9).map(|n| (vec![n, 100 - n], 1));
        let plan = tally_of((1..=9).map(|n| (vec![4, n, n], 2)).chain(others)).plan(Part::All);
        let bound = PlanRow { layout: Layout::from(vec![4, 9, 9]), kind: ReserveKind::UpTo, count: 2 };
        assert_eq!((plan.rows.len(), &plan.rows[9]), (10, &bound));
    }

    #[test]
    fn without_room_nothing_is_counted() {
        let (mut tally, mut room) = (Tally::default(), Room { bytes: 100_000 });
        let takes = (1..100_000).take_while(|&n| {
            let before = (tally.bytes(), room.bytes);
            let is_counted = tally.take(&mut room, &Layout::from(vec![n, 3, 3]), "test", 0, KIND).is_some();
            assert_eq!(tally.bytes() - before.0, before.1 - room.bytes);
            is_counted
        });
        let counted = takes.count();
        assert!((20..500).contains(&counted), "{counted}");
        assert!(tally.bytes() <= 100_000);
        assert_eq!(tally.layouts().count(), counted);
    }
}
