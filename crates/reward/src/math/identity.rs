//! Identities of rational functions, tested by their values modulo two 61-bit primes.
//!
//! Every variable, π and e, and every function value that is not expanded, is an *atom*: a residue that is a
//! hash of its name or of the residues of its arguments. A rational function of degree d that is not zero
//! vanishes at such a point with a probability of at most d / 2^61 per prime (Schwartz, JACM 1980), so equal
//! residues mean equal functions. Unequal residues prove a difference where all atoms are independent, which
//! function values need not be.
//!
//! Both primes are 1 modulo 8 and have every prime up to 47 as a square, so that i and the square roots of
//! integers without larger factors are residues too, and obey their own rules: √12 = 2√3 is an identity.

use super::budget::{Budget, Trouble};
use super::exact;
use super::expr::{Expr, Function};
use super::units::Unit;
use num_bigint::{BigInt, Sign};
use num_rational::BigRational;
use num_traits::{One, Signed, ToPrimitive};

const PRIMES: [u64; 2] = [2_305_838_235_815_794_681, 2_305_835_906_726_231_881];

/// Square roots of -1 modulo each prime.
const ROOTS_OF_MINUS_ONE: [u64; 2] = [2_036_645_161_565_002_916, 688_276_854_618_871_972];

/// Small primes, each with a square root modulo each of [`PRIMES`].
const SQUARES: [(u64, [u64; 2]); 15] = [
    (2, [1_560_870_667_018_319_083, 250_519_878_354_943_619]),
    (3, [1_824_499_910_548_920_086, 925_697_969_304_130_288]),
    (5, [1_503_216_297_125_355_591, 972_832_891_424_221_516]),
    (7, [1_275_480_439_939_520_120, 1_733_063_119_399_431_742]),
    (11, [1_037_521_093_536_942_747, 1_386_522_758_115_093_464]),
    (13, [527_914_428_446_526_350, 260_212_139_960_316_737]),
    (17, [1_357_325_541_747_056_836, 1_785_205_350_882_049_927]),
    (19, [1_628_571_797_374_629_462, 1_111_261_135_023_792_500]),
    (23, [1_718_666_837_097_238_010, 2_008_739_931_631_329_695]),
    (29, [747_605_723_070_678_371, 1_459_353_279_862_034_596]),
    (31, [972_498_357_853_865_635, 1_856_524_237_306_933_809]),
    (37, [1_084_195_905_487_733_478, 1_633_319_299_246_134_012]),
    (41, [1_216_877_844_438_732_224, 1_731_213_498_962_903_450]),
    (43, [935_581_314_268_537_836, 1_697_853_472_330_169_708]),
    (47, [324_434_339_748_986_108, 2_235_938_905_914_351_557]),
];

/// A residue modulo each prime.
type Residue = [u64; 2];

const ZERO: Residue = [0, 0];
const ONE: Residue = [1, 1];

/// A value as a quotient of residues, so that nothing is divided until it must be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fingerprint {
    pub(crate) numerator: Residue,
    denominator: Residue,
}

/// What a fingerprint was made of, which says what a difference proves.
#[derive(Clone, Copy, Debug, Default)]
struct Atoms {
    functions: bool,
    pi: bool,
    e: bool,
}

/// The fingerprints of several expressions at one point.
pub(crate) struct Identity<'a> {
    budget: &'a Budget,
    /// Another salt is another point.
    salt: u64,
    atoms: Atoms,
    symbols_below: bool,
}

impl<'a> Identity<'a> {
    /// The point of that `salt`.
    pub(crate) fn new(budget: &'a Budget, salt: u64) -> Self {
        Self { budget, salt, atoms: Atoms::default(), symbols_below: false }
    }

    /// Whether unequal fingerprints of what was computed so far prove a difference.
    pub(crate) fn is_decisive(&self) -> bool {
        !(self.atoms.functions || self.atoms.pi && self.atoms.e)
    }

    /// Whether a denominator held a variable.
    pub(crate) fn has_variable_denominator(&self) -> bool {
        self.symbols_below
    }

    /// The fingerprint of `expr`.
    pub(crate) fn of(&mut self, expr: &Expr) -> Result<Fingerprint, Trouble> {
        self.budget.spend(6)?;
        match expr {
            Expr::Number(number) => rational(&number.value),
            Expr::Based { value, .. } => rational(&BigRational::from_integer(value.clone())),
            Expr::Pi => {
                self.atoms.pi = true;
                Ok(Self::atom("pi", &[]))
            }
            Expr::E => {
                self.atoms.e = true;
                Ok(Self::atom("e", &[]))
            }
            Expr::I => Ok(Fingerprint { numerator: ROOTS_OF_MINUS_ONE, denominator: ONE }),
            Expr::Symbol(name) => Ok(self.atom_at_point(name)),
            Expr::Sum(terms) => {
                let mut sum = Fingerprint { numerator: ZERO, denominator: ONE };
                for term in terms {
                    sum = sum.plus(self.of(term)?);
                }
                Ok(sum)
            }
            Expr::Product(factors) => {
                let mut product = Fingerprint { numerator: ONE, denominator: ONE };
                for factor in factors {
                    product = product.times(self.of(factor)?);
                }
                Ok(product)
            }
            Expr::Power(base, exponent) => self.power(base, exponent),
            Expr::Quantity(value, Unit::Percent) => {
                Ok(self.of(value)?.times(rational(&BigRational::new(1.into(), 100.into()))?))
            }
            Expr::Quantity(value, Unit::Degree) => {
                let pi = self.of(&Expr::Pi)?;
                Ok(self.of(value)?.times(pi).times(rational(&BigRational::new(1.into(), 180.into()))?))
            }
            Expr::Apply(name, arguments) => {
                let arguments = self.all(arguments)?;
                Ok(Self::atom(name, &arguments))
            }
            Expr::Call(function, arguments) => self.call(*function, arguments),
            _ => Err(Trouble::NoValue),
        }
    }

    fn all(&mut self, arguments: &[Expr]) -> Result<Vec<Residue>, Trouble> {
        let mut residues = Vec::with_capacity(arguments.len());
        for argument in arguments {
            residues.push(self.of(argument)?.quotient()?);
        }
        Ok(residues)
    }

    fn power(&mut self, base: &Expr, exponent: &Expr) -> Result<Fingerprint, Trouble> {
        match exact::rational(exponent, self.budget)? {
            Some(exponent) if exponent.is_integer() => {
                let base_print = self.of(base)?;
                if exponent.is_negative() && !base.symbols().is_empty() {
                    self.symbols_below = true;
                }
                base_print.power(exponent.numer(), self.budget)
            }
            Some(exponent) => {
                let index = Expr::Number(super::expr::Number::integer(exponent.denom().clone()));
                let root = self.call(Function::Root, &[base.clone(), index])?;
                root.power(exponent.numer(), self.budget)
            }
            None => self.symbolic_power(base, exponent),
        }
    }

    /// a^(u + v) = a^u a^v, a^(nu) = (a^u)^n for an integer n.
    fn symbolic_power(&mut self, base: &Expr, exponent: &Expr) -> Result<Fingerprint, Trouble> {
        match exponent {
            Expr::Sum(terms) => {
                let mut product = Fingerprint { numerator: ONE, denominator: ONE };
                for term in terms {
                    product = product.times(self.power(base, term)?);
                }
                Ok(product)
            }
            Expr::Product(factors) => {
                let mut count = BigInt::one();
                let mut rest = Vec::new();
                for factor in factors {
                    match exact::integer(factor, self.budget)? {
                        Some(integer) => count *= integer,
                        None => rest.push(factor.clone()),
                    }
                }
                let exponent = self.of(&Expr::Product(rest))?.quotient()?;
                let base = self.of(base)?.quotient()?;
                self.atoms.functions = true;
                Self::atom("^", &[base, exponent]).power(&count, self.budget)
            }
            _ => {
                let exponent = self.of(exponent)?.quotient()?;
                let base = self.of(base)?.quotient()?;
                self.atoms.functions = true;
                Ok(Self::atom("^", &[base, exponent]))
            }
        }
    }

    fn call(&mut self, function: Function, arguments: &[Expr]) -> Result<Fingerprint, Trouble> {
        let call = Expr::Call(function, arguments.to_vec());
        if call.symbols().is_empty()
            && let Some(value) = exact::rational(&call, self.budget)?
        {
            return rational(&value);
        }
        match (function, arguments) {
            (Function::Root, [of, index]) if index.is_integer(2) => {
                if let Some(value) = exact::rational(of, self.budget)? {
                    return self.square_root(&value);
                }
            }
            (Function::Ln, [of]) => {
                if let Some(value) = exact::rational(of, self.budget)?.filter(BigRational::is_positive) {
                    return self.logarithm(&value);
                }
                if matches!(of, Expr::E) {
                    return Ok(Fingerprint { numerator: ONE, denominator: ONE });
                }
            }
            (Function::Log, [of, base]) => {
                let below = self.call(Function::Ln, std::slice::from_ref(base))?;
                let above = self.call(Function::Ln, std::slice::from_ref(of))?;
                return Ok(above.times(below.inverse()?));
            }
            _ => {}
        }
        let residues = self.all(arguments)?;
        self.atoms.functions = true;
        Ok(Self::atom(name(function), &residues))
    }

    /// √(a/b) = √(ab) / b, by the factors of ab.
    fn square_root(&mut self, value: &BigRational) -> Result<Fingerprint, Trouble> {
        let product = value.numer() * value.denom();
        let (factors, rest) = self.factor(product.abs())?;
        let mut root = Fingerprint { numerator: ONE, denominator: ONE };
        for (at, count) in factors {
            let residue = SQUARES[at].1;
            root = root.times(
                Fingerprint { numerator: residue, denominator: ONE }.power(&count.into(), self.budget)?,
            );
        }
        if !rest.is_one() {
            let whole = rest.sqrt();
            if &whole * &whole == rest {
                root = root.times(rational(&BigRational::from_integer(whole))?);
            } else {
                self.atoms.functions = true;
                let rest = rational(&BigRational::from_integer(rest))?.quotient()?;
                root = root.times(Self::atom("root", &[rest]));
            }
        }
        if product.is_negative() {
            root = root.times(Fingerprint { numerator: ROOTS_OF_MINUS_ONE, denominator: ONE });
        }
        Ok(root.times(rational(&BigRational::from_integer(value.denom().clone()).recip())?))
    }

    /// ln(2^a 3^b …) = a ln 2 + b ln 3 + …
    fn logarithm(&mut self, value: &BigRational) -> Result<Fingerprint, Trouble> {
        self.atoms.functions = true;
        let mut sum = Fingerprint { numerator: ZERO, denominator: ONE };
        for (number, sign) in [(value.numer(), 1_i64), (value.denom(), -1)] {
            let (factors, rest) = self.factor(number.clone())?;
            for (at, count) in factors {
                let prime = rational(&BigRational::from_integer(SQUARES[at].0.into()))?.quotient()?;
                let count = rational(&BigRational::from_integer((sign * count).into()))?;
                sum = sum.plus(Self::atom("ln", &[prime]).times(count));
            }
            if !rest.is_one() {
                let rest = rational(&BigRational::from_integer(rest))?.quotient()?;
                let sign = rational(&BigRational::from_integer(sign.into()))?;
                sum = sum.plus(Self::atom("ln", &[rest]).times(sign));
            }
        }
        Ok(sum)
    }

    /// Small prime factors, by their place in [`SQUARES`], with their counts, and what is left.
    fn factor(&self, mut number: BigInt) -> Result<(Vec<(usize, i64)>, BigInt), Trouble> {
        let mut factors = Vec::new();
        for (at, (prime, _)) in SQUARES.iter().enumerate() {
            let mut count = 0;
            while (&number % prime).sign() == Sign::NoSign && number.sign() != Sign::NoSign {
                self.budget.spend(2 + number.bits() / 64)?;
                number /= *prime;
                count += 1;
            }
            if count > 0 {
                factors.push((at, count));
            }
        }
        Ok((factors, number))
    }

    /// A variable's residue, which depends on the point.
    fn atom_at_point(&self, name: &str) -> Fingerprint {
        Fingerprint { numerator: residue(hash(name.bytes(), self.salt)), denominator: ONE }
    }

    /// The residue of `name` applied to `arguments`, everywhere the same.
    fn atom(name: &str, arguments: &[Residue]) -> Fingerprint {
        let bytes = arguments.iter().flatten().flat_map(|residue| residue.to_le_bytes());
        Fingerprint {
            numerator: residue(hash(name.bytes().chain([0]).chain(bytes), u64::MAX)),
            denominator: ONE,
        }
    }
}

impl Fingerprint {
    /// Whether it equals `other`.
    pub(crate) fn equals(self, other: Self) -> bool {
        multiply(self.numerator, other.denominator) == multiply(other.numerator, self.denominator)
    }

    /// Whether `self / other` at this point is `a / b` at another, with cleared denominators.
    pub(crate) fn has_ratio_of(self, other: Self, a: Self, b: Self) -> bool {
        multiply(self.numerator, b.numerator) == multiply(other.numerator, a.numerator)
    }

    /// Whether it is zero.
    pub(crate) fn is_zero(self) -> bool {
        self.numerator == ZERO
    }

    fn plus(self, other: Self) -> Self {
        if self.denominator == other.denominator {
            return Self { numerator: add(self.numerator, other.numerator), denominator: self.denominator };
        }
        Self {
            numerator: add(
                multiply(self.numerator, other.denominator),
                multiply(other.numerator, self.denominator),
            ),
            denominator: multiply(self.denominator, other.denominator),
        }
    }

    pub(crate) fn times(self, other: Self) -> Self {
        Self {
            numerator: multiply(self.numerator, other.numerator),
            denominator: multiply(self.denominator, other.denominator),
        }
    }

    fn inverse(self) -> Result<Self, Trouble> {
        if self.numerator.contains(&0) {
            return Err(Trouble::Undefined);
        }
        Ok(Self { numerator: self.denominator, denominator: self.numerator })
    }

    fn power(self, exponent: &BigInt, budget: &Budget) -> Result<Self, Trouble> {
        budget.spend(20 + exponent.bits() / 16)?;
        let base = if exponent.is_negative() { self.inverse()? } else { self };
        // Fermat: an exponent counts modulo p - 1, except for a base of zero.
        let exponents = PRIMES.map(|prime| {
            let exponent = exponent.abs();
            exponent
                .to_u64()
                .unwrap_or_else(|| (exponent % (prime - 1)).to_u64().unwrap_or_default() + (prime - 1))
        });
        let power = |base: Residue| [0, 1].map(|i| power_modulo(base[i], exponents[i], PRIMES[i]));
        Ok(Self { numerator: power(base.numerator), denominator: power(base.denominator) })
    }

    fn quotient(self) -> Result<Residue, Trouble> {
        if self.denominator == ONE {
            return Ok(self.numerator);
        }
        if self.denominator.contains(&0) {
            return Err(Trouble::Undefined);
        }
        let inverse = [0, 1].map(|i| power_modulo(self.denominator[i], PRIMES[i] - 2, PRIMES[i]));
        Ok(multiply(self.numerator, inverse))
    }
}

fn rational(value: &BigRational) -> Result<Fingerprint, Trouble> {
    let reduce = |number: &BigInt| {
        if let Some(small) = number.to_i64() {
            return PRIMES.map(|prime| small.rem_euclid(prime as i64) as u64);
        }
        PRIMES.map(|prime| {
            let rest = number % prime;
            let rest = if rest.is_negative() { rest + prime } else { rest };
            rest.to_u64().unwrap_or_default()
        })
    };
    let denominator = reduce(value.denom());
    if denominator.contains(&0) {
        return Err(Trouble::Undefined);
    }
    Ok(Fingerprint { numerator: reduce(value.numer()), denominator })
}

fn add(a: Residue, b: Residue) -> Residue {
    [0, 1].map(|i| (a[i] + b[i]) % PRIMES[i])
}

fn multiply(a: Residue, b: Residue) -> Residue {
    [0, 1].map(|i| multiply_modulo(a[i], b[i], PRIMES[i]))
}

fn multiply_modulo(a: u64, b: u64, prime: u64) -> u64 {
    (u128::from(a) * u128::from(b) % u128::from(prime)) as u64
}

fn power_modulo(mut base: u64, mut exponent: u64, prime: u64) -> u64 {
    let mut power = 1;
    while exponent > 0 {
        if exponent & 1 == 1 {
            power = multiply_modulo(power, base, prime);
        }
        base = multiply_modulo(base, base, prime);
        exponent >>= 1;
    }
    power
}

fn residue(hash: u64) -> Residue {
    PRIMES.map(|prime| (mix(hash ^ prime) >> 3) % (prime - 2) + 2)
}

/// FNV-1a, mixed.
fn hash(bytes: impl Iterator<Item = u8>, salt: u64) -> u64 {
    let start = 0xcbf2_9ce4_8422_2325_u64 ^ mix(salt);
    mix(bytes.fold(start, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)))
}

/// The finalizer of SplitMix64.
pub(crate) fn mix(mut x: u64) -> u64 {
    x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

fn name(function: Function) -> &'static str {
    use Function as F;
    match function {
        F::Root => "root",
        F::Ln => "ln",
        F::Log => "log",
        F::Sin => "sin",
        F::Cos => "cos",
        F::Tan => "tan",
        F::Cot => "cot",
        F::Sec => "sec",
        F::Csc => "csc",
        F::Asin => "asin",
        F::Acos => "acos",
        F::Atan => "atan",
        F::Acot => "acot",
        F::Asec => "asec",
        F::Acsc => "acsc",
        F::Sinh => "sinh",
        F::Cosh => "cosh",
        F::Tanh => "tanh",
        F::Coth => "coth",
        F::Sech => "sech",
        F::Csch => "csch",
        F::Asinh => "asinh",
        F::Acosh => "acosh",
        F::Atanh => "atanh",
        F::Abs => "abs",
        F::Floor => "floor",
        F::Ceil => "ceil",
        F::Factorial => "!",
        F::DoubleFactorial => "!!",
        F::Binomial => "binom",
        F::Gcd => "gcd",
        F::Lcm => "lcm",
        F::Max => "max",
        F::Min => "min",
        F::Mod => "mod",
        F::Re => "re",
        F::Im => "im",
        F::Conj => "conj",
        F::Arg => "arg",
    }
}
