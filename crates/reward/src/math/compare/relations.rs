//! Equations, inequalities, memberships, and statements joined by "and" or "or".

use super::names::{Assignment, is_name, members, settle};
use super::{
    Comparer, Decision, as_regions, differ, is_collection, is_constant, is_region, oriented, region_decision,
};
use crate::math::expr::{Expr, Function};
use crate::math::parse::kind;
use crate::math::values;

impl Comparer<'_> {
    /// Statements joined by "and" or "or", and what is none or others: as sets of numbers, or one by one.
    pub(super) fn statements(&self, a: &Expr, b: &Expr) -> Decision {
        let is_set = is_region(a) || matches!(a, Expr::Set(_) | Expr::Tuple { .. });
        if is_set && !self.options.allow_set_relation_comp {
            return differ(
                "the answer is an inequality where the reference is a set (allow_set_relation_comp accepts it)",
            );
        }
        if let Some((a, b)) = as_regions(a, b, self.budget) {
            return region_decision(a.equals(&b, self.budget));
        }
        match (a, b) {
            (Expr::Logic(joiner, items), Expr::Logic(other, others)) if joiner == other => {
                self.in_any_order(items, others, false)
            }
            (Expr::Logic('∧', items), Expr::List(others)) | (Expr::List(items), Expr::Logic('∧', others)) => {
                self.in_any_order(items, others, false)
            }
            (Expr::Logic(..), Expr::Logic(..)) => differ("\"or\" is not \"and\""),
            _ => differ(format!("the reference is {}, the answer {}", kind(a), kind(b))),
        }
    }

    /// An equation where the reference is the value of a variable: only one that gives it the same value will do.
    fn unsolved(&self, reference: &Expr, others: &[Expr], other_signs: &[char]) -> Option<Decision> {
        let Assignment { name, values } = Assignment::of(reference)?;
        let is_solved = matches!(name, Expr::Symbol(_)) && values.iter().all(is_constant);
        let ([left, right], ['=']) = (others, other_signs) else { return None };
        if !is_solved || *left == name || is_name(left) {
            return None;
        }
        Some(if *right == name {
            self.any_value(&values, std::slice::from_ref(left))
        } else {
            differ("an equation is not its solution")
        })
    }

    /// Two relations: equal values under one name, multiples of one another, or the same set of numbers.
    pub(super) fn relations(&self, a: &Expr, b: &Expr) -> Decision {
        if let (Some(left), Some(right)) = (Assignment::of(a), Assignment::of(b))
            && left.has_name_of(&right)
        {
            let decision = self.any_value(&left.values, &right.values);
            if decision.is_equal() {
                return decision;
            }
        }
        let (Expr::Relation(sides, signs), Expr::Relation(others, other_signs)) = (a, b) else {
            return differ("they are not both relations");
        };
        if signs.contains(&'≡') || other_signs.contains(&'≡') {
            return self.congruences(sides, signs, others, other_signs);
        }
        if let (['∈' | '∉'], ['∈' | '∉']) = (&signs[..], &other_signs[..]) {
            if signs != other_signs {
                return differ("one says what the other denies");
            }
            return self.in_order(sides, others);
        }
        if !self.options.unevaluated
            && let Some(decision) = self.unsolved(a, others, other_signs)
        {
            return decision;
        }
        if let (Some(items), Some(others)) = (members(a), members(b)) {
            return self.in_any_order(&items, &others, false);
        }
        if signs.len() == 1 && other_signs.len() == 1 {
            let decision = self.single_relations(sides, signs[0], others, other_signs[0]);
            if !matches!(decision, Decision::Undecided(_)) {
                return decision;
            }
        }
        if let Some((a, b)) = as_regions(a, b, self.budget) {
            return region_decision(a.equals(&b, self.budget));
        }
        self.chains(sides, signs, others, other_signs)
    }

    fn single_relations(&self, sides: &[Expr], sign: char, others: &[Expr], other_sign: char) -> Decision {
        let (left, sign) = oriented(sides, sign);
        let (right, other_sign) = oriented(others, other_sign);
        let (Some(left), Some(right)) = (left, right) else {
            return self.in_order(sides, others);
        };
        if sign != other_sign {
            return differ("they are different kinds of relation");
        }
        match values::constant_ratio(&left, &right, self.budget) {
            Ok(Some(1)) => Decision::Equal("one is a multiple of the other"),
            Ok(Some(_)) if "=≠".contains(sign) => Decision::Equal("one is a multiple of the other"),
            Ok(Some(0)) => Decision::Undecided("the sign of the factor between them is not known".into()),
            Ok(Some(_)) => differ("they point in opposite directions"),
            Ok(None) => differ("neither is a multiple of the other"),
            Err(trouble) => Decision::from_trouble(trouble),
        }
    }

    /// `a < b < c`, link by link, in either direction.
    fn chains(&self, sides: &[Expr], signs: &[char], others: &[Expr], other_signs: &[char]) -> Decision {
        if signs.len() != other_signs.len() {
            return Decision::Undecided("the chains of relations are of different lengths".into());
        }
        let links = |sides: &[Expr], signs: &[char]| {
            sides
                .windows(2)
                .zip(signs)
                .map(|(pair, sign)| Expr::Relation(pair.to_vec(), vec![*sign]))
                .collect::<Vec<_>>()
        };
        if signs.len() == 1 {
            return Decision::Undecided("there is no rule to compare these relations".into());
        }
        self.in_any_order(&links(sides, signs), &links(others, other_signs), false)
    }

    /// `a ≡ b (mod m)`.
    fn congruences(&self, sides: &[Expr], signs: &[char], others: &[Expr], other_signs: &[char]) -> Decision {
        let parts = |sides: &[Expr], signs: &[char]| match (sides, signs) {
            ([left, Expr::Call(Function::Mod, right)], ['≡']) => {
                Some(([left.clone(), Expr::Call(Function::Mod, right.clone())], right[1].clone()))
            }
            _ => None,
        };
        let (Some((left, modulus)), Some((right, other_modulus))) =
            (parts(sides, signs), parts(others, other_signs))
        else {
            return Decision::Undecided("there is no rule to compare these relations".into());
        };
        let moduli = self.settled(&modulus, &other_modulus);
        if moduli.is_equal() { self.in_order(&left, &right) } else { moduli }
    }

    /// A relation and a value that is not one. `first`: the relation is the reference.
    pub(super) fn relation_and_other(&self, relation: &Expr, other: &Expr, first: bool) -> Decision {
        let Expr::Relation(sides, signs) = relation else {
            return differ("there is no relation");
        };
        if let [.., '∈'] = signs[..]
            && !is_constant(&sides[sides.len() - 2])
        {
            let set = settle(&sides[sides.len() - 1]);
            return if first { self.settled(&set, other) } else { self.settled(other, &set) };
        }
        if let Some(assignment) = Assignment::of(relation) {
            let other = [other.clone()];
            return if first {
                self.any_value(&assignment.values, &other)
            } else {
                self.any_value(&other, &assignment.values)
            };
        }
        if matches!(other, Expr::List(_))
            && let Some((a, b)) = as_regions(relation, other, self.budget)
        {
            return region_decision(a.equals(&b, self.budget));
        }
        if is_region(other)
            || matches!(other, Expr::Set(_))
            || matches!(other, Expr::Tuple { items, .. } if items.len() == 2)
        {
            let is_inequality = signs.iter().any(|sign| "<>≤≥≠".contains(*sign));
            if is_inequality && !first && !self.options.allow_set_relation_comp {
                return differ(
                    "the answer is an inequality where the reference is a set (allow_set_relation_comp accepts it)",
                );
            }
            if let Some((a, b)) = as_regions(relation, other, self.budget) {
                return region_decision(a.equals(&b, self.budget));
            }
        }
        // An equation all of whose sides are the other value states that value.
        if signs.iter().all(|sign| *sign == '=') && !is_collection(other) {
            let mut worst = Decision::Equal("every side of the equation");
            for side in sides {
                match self.settled(&settle(side), other) {
                    Decision::Equal(_) => {}
                    Decision::Differ(_) => return differ("an equation is not a value"),
                    undecided @ Decision::Undecided(_) => worst = undecided,
                }
            }
            return worst;
        }
        let (a, b) = if first { (relation, other) } else { (other, relation) };
        differ(format!("the reference is {}, the answer {}", kind(a), kind(b)))
    }
}
