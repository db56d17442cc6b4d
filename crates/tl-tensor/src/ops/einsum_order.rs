//! An `einsum` of three operands and more: pairs of them are multiplied one after the other, in the order that takes the
//! fewest multiplications. Each result in between is an operation's, and takes its memory as such.

use smallvec::SmallVec;
use tl_device::{Role, Shape};

use super::einsum_spec::{Letters, Spec, is_ellipsis};
use crate::Error;
use crate::op::Arg;
use crate::op::kernel::Again;
use crate::strides::Strides;
use crate::tensor::{DynTensor, Tensor};

/// The most operands for which all orders are compared. Of more, the cheapest pairs are multiplied first.
const MAX_COMPARED: usize = 7;

/// Letters, a bit for each.
type LetterSet = u128;

/// An operand, or a result in between.
struct Part {
    tensor: DynTensor,
    letters: Letters,
}

impl Part {
    fn set(&self) -> LetterSet {
        set_of(&self.letters)
    }
}

fn set_of(letters: &[u8]) -> LetterSet {
    letters.iter().fold(0, |set, letter| set | 1 << letter)
}

/// The result of a call with three operands or more, by calls with one or two. `None` for any other call.
pub(super) fn contract(args: &[Arg<'_>], role: Role, again: Again) -> Option<Result<DynTensor, Error>> {
    let [Arg::Text(text), Arg::Tensor(a), Arg::Tensor(b), Arg::Tensors(others)] = args else { return None };
    if others.is_empty() {
        return None;
    }
    let tensors = || [*a, *b].into_iter().chain(others.iter().map(Tensor::as_dyn));
    let ranks: SmallVec<[usize; 8]> = tensors().map(|tensor| tensor.shape().len()).collect();
    let spec = Spec::parse(text, &ranks).ok()?;
    let parts = tensors().zip(&spec.operands);
    let parts = parts.map(|(tensor, letters)| Part { tensor: tensor.clone(), letters: letters.clone() }).collect();
    Some(Contraction { again, result: spec.result, parts }.run(role))
}

struct Contraction<'a> {
    again: Again<'a>,
    result: Letters,
    parts: SmallVec<[Part; 8]>,
}

impl Contraction<'_> {
    fn run(mut self, role: Role) -> Result<DynTensor, Error> {
        self.drop_repeating_dimensions()?;
        self.sum_within_operands()?;
        while self.parts.len() > MAX_COMPARED {
            let (a, b) = self.cheapest_pair();
            let (b, a) = (self.parts.remove(b), self.parts.remove(a));
            let part = self.multiply(&a, &b, self.needed(self.parts.iter()))?;
            self.parts.push(part);
        }
        let order = Order::of(&self);
        let all = self.all();
        let (left, right) = (self.product(&order, order.left(all))?, self.product(&order, all ^ order.left(all))?);
        let result = self.result.clone();
        self.apply(&[&left, &right], &result, role)
    }

    /// All parts, a bit for each.
    fn all(&self) -> usize {
        (1 << self.parts.len()) - 1
    }

    /// Dimensions of size 1 that repeat along a longer one of another operand are dropped: views have no room for them.
    fn drop_repeating_dimensions(&mut self) -> Result<(), Error> {
        let mut longer: LetterSet = 0;
        for part in &self.parts {
            for (&letter, &size) in part.letters.iter().zip(part.tensor.shape().iter()) {
                longer |= if is_ellipsis(letter) && size != 1 { 1 << letter } else { 0 };
            }
        }
        for part in &mut self.parts {
            let dims = || part.letters.iter().zip(part.tensor.shape().iter()).map(|(letter, size)| (*letter, *size));
            let is_kept = |&(letter, size): &(u8, usize)| size != 1 || longer & 1 << letter == 0;
            if dims().all(|dim| is_kept(&dim)) {
                continue;
            }
            let tensor = if part.tensor.has_repeat() { part.tensor.contiguous()? } else { part.tensor.clone() };
            let strides: Strides =
                dims().zip(tensor.strides()).filter(|(dim, _)| is_kept(dim)).map(|(_, stride)| *stride).collect();
            let shape: Shape = dims().filter(is_kept).map(|(_, size)| size).collect();
            part.letters = dims().filter(is_kept).map(|(letter, _)| letter).collect();
            part.tensor = tensor.view(shape, strides, 0);
        }
        Ok(())
    }

    /// Letters that one operand alone has are summed over before it is multiplied.
    fn sum_within_operands(&mut self) -> Result<(), Error> {
        for index in 0..self.parts.len() {
            let others = self.parts.iter().enumerate().filter(|(other, _)| *other != index).map(|(_, part)| part);
            let needed = self.needed(others);
            let part = &self.parts[index];
            if part.set() & !needed == 0 {
                continue;
            }
            let mut letters = Letters::new();
            for &letter in part.letters.iter().filter(|letter| needed & 1 << **letter != 0) {
                if !letters.contains(&letter) {
                    letters.push(letter);
                }
            }
            let tensor = self.apply(&[part], &letters, Role::Activation)?;
            self.parts[index] = Part { tensor, letters };
        }
        Ok(())
    }

    /// The letters of the result and of these parts.
    fn needed<'p>(&self, parts: impl Iterator<Item = &'p Part>) -> LetterSet {
        parts.fold(set_of(&self.result), |set, part| set | part.set())
    }

    fn cheapest_pair(&self) -> (usize, usize) {
        let sizes = LetterSizes::of(&self.parts);
        let pairs = (0..self.parts.len()).flat_map(|b| (0..b).map(move |a| (a, b)));
        let cost = |&(a, b): &(usize, usize)| sizes.product(self.parts[a].set() | self.parts[b].set());
        pairs.min_by(|a, b| cost(a).total_cmp(&cost(b))).unwrap_or((0, 1))
    }

    /// The product of a set of parts.
    fn product(&self, order: &Order, set: usize) -> Result<Part, Error> {
        if set.is_power_of_two() {
            let Part { tensor, letters } = &self.parts[set.trailing_zeros() as usize];
            return Ok(Part { tensor: tensor.clone(), letters: letters.clone() });
        }
        let left = self.product(order, order.left(set))?;
        let right = self.product(order, set ^ order.left(set))?;
        let others = self.parts.iter().enumerate().filter(|(index, _)| set & 1 << index == 0).map(|(_, part)| part);
        self.multiply(&left, &right, self.needed(others))
    }

    /// The product of two parts, summed over all letters but the needed ones. Its dimensions are a batch, rows and
    /// columns.
    fn multiply(&self, a: &Part, b: &Part, needed: LetterSet) -> Result<Part, Error> {
        let mut letters = Letters::new();
        let (of_a, of_b) = (a.set(), b.set());
        for (part, is_chosen) in [(a, of_a & of_b), (a, of_a & !of_b), (b, of_b & !of_a)] {
            for &letter in part.letters.iter().filter(|letter| is_chosen & needed & 1 << **letter != 0) {
                if !letters.contains(&letter) {
                    letters.push(letter);
                }
            }
        }
        let tensor = self.apply(&[a, b], &letters, Role::Activation)?;
        Ok(Part { tensor, letters })
    }

    /// Applies the operation to one or two parts. Their letters are renamed from `a` on.
    fn apply(&self, parts: &[&Part], result: &Letters, role: Role) -> Result<DynTensor, Error> {
        let mut names = Letters::new();
        let mut text: SmallVec<[u8; 64]> = SmallVec::new();
        for (index, letters) in parts.iter().map(|part| &part.letters).chain([result]).enumerate() {
            match index {
                0 => {}
                index if index == parts.len() => text.extend_from_slice(b"->"),
                _ => text.push(b','),
            }
            for &letter in letters {
                let place = names.iter().position(|known| *known == letter).unwrap_or(names.len());
                if place == names.len() {
                    names.push(letter);
                }
                text.push(if place < 26 { b'a' + place as u8 } else { b'A' + (place - 26) as u8 });
            }
        }
        let mut args: SmallVec<[Arg<'_>; 4]> = SmallVec::new();
        args.push(Arg::Text(std::str::from_utf8(&text).unwrap_or_default()));
        args.extend(parts.iter().map(|part| Arg::Tensor(&part.tensor)));
        args.resize(4, Arg::None);
        (self.again)(&args, role)
    }
}

/// The sizes of letters.
struct LetterSizes([f64; 128]);

impl LetterSizes {
    fn of(parts: &[Part]) -> LetterSizes {
        let mut sizes = [1.0; 128];
        for part in parts {
            for (&letter, &size) in part.letters.iter().zip(part.tensor.shape().iter()) {
                sizes[usize::from(letter & 127)] = size as f64;
            }
        }
        LetterSizes(sizes)
    }

    /// The number of elements of a tensor with these letters.
    fn product(&self, mut letters: LetterSet) -> f64 {
        let mut product = 1.0;
        while letters != 0 {
            product *= self.0[letters.trailing_zeros() as usize];
            letters &= letters - 1;
        }
        product
    }
}

/// The cheapest order of multiplying the parts: for each set of them, the subset whose product is multiplied with the
/// product of the rest.
struct Order([u8; 1 << MAX_COMPARED]);

impl Order {
    /// Compares all orders, from small sets to large ones. A product costs as many multiplications as there are indices of all
    /// its letters, and the writing of its result.
    fn of(contraction: &Contraction<'_>) -> Order {
        let parts = &contraction.parts;
        let sizes = LetterSizes::of(parts);
        let (mut order, mut costs) = (Order([0; 1 << MAX_COMPARED]), [f64::INFINITY; 1 << MAX_COMPARED]);
        let mut letters: [LetterSet; 1 << MAX_COMPARED] = [0; 1 << MAX_COMPARED];
        for set in 1..1usize << parts.len() {
            let is_in = |index: &usize| set & 1 << index != 0;
            let own = (0..parts.len()).filter(is_in).fold(0, |letters, index| letters | parts[index].set());
            let others = (0..parts.len()).filter(|index| !is_in(index)).map(|index| &parts[index]);
            letters[set] = own & contraction.needed(others);
            if set.is_power_of_two() {
                (costs[set], letters[set]) = (0.0, own);
                continue;
            }
            let written = sizes.product(letters[set]);
            let mut left = (set - 1) & set;
            while left != 0 {
                let right = set ^ left;
                let cost = costs[left] + costs[right] + sizes.product(letters[left] | letters[right]) + written;
                // Each division of the set is met twice.
                if left < right && (cost < costs[set] || order.0[set] == 0) {
                    (costs[set], order.0[set]) = (cost, left as u8);
                }
                left = (left - 1) & set;
            }
        }
        order
    }

    /// The left part of a set of several.
    fn left(&self, set: usize) -> usize {
        usize::from(self.0[set])
    }
}
