//! Instruction sets: what this machine has, and which of it to use.

use std::{fmt, str::FromStr};

/// An instruction set that kernels exist for, from the least to the most capable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Isa {
    /// Plain Rust, on any machine.
    Portable,
    /// AVX2 with FMA.
    Avx2,
    /// AVX-512 F, BW, DQ and VL.
    Avx512,
    /// AVX-512 with BF16: products of bf16 operands on vectors.
    Avx512Bf16,
    /// AVX-512 with BF16, and products on AMX's tiles with bf16 operands.
    Amx,
}

impl Isa {
    /// All of them, from the least to the most capable.
    pub const ALL: [Self; 5] = [Self::Portable, Self::Avx2, Self::Avx512, Self::Avx512Bf16, Self::Amx];

    /// The fastest one that this machine has.
    pub fn best() -> Self {
        let is_fast = |isa: &Self| isa.is_available() && (*isa != Self::Avx512Bf16 || dots_are_fast());
        Self::ALL.into_iter().rev().find(is_fast).unwrap_or(Self::Portable)
    }

    /// Whether this machine has it, and its system allows it.
    ///
    /// Asking for AMX requests Linux's permission to use tiles, which threads started later inherit.
    #[cfg(target_arch = "x86_64")]
    pub fn is_available(self) -> bool {
        match self {
            Self::Portable => true,
            Self::Avx2 => is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"),
            Self::Avx512 => {
                Self::Avx2.is_available()
                    && is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vl")
            }
            Self::Avx512Bf16 => Self::Avx512.is_available() && is_x86_feature_detected!("avx512bf16"),
            Self::Amx => Self::Avx512Bf16.is_available() && has_tiles(),
        }
    }

    /// Whether this machine has it, and its system allows it.
    #[cfg(not(target_arch = "x86_64"))]
    pub fn is_available(self) -> bool {
        self == Self::Portable
    }

    /// Those that this machine has.
    pub fn available() -> Vec<Self> {
        Self::ALL.into_iter().filter(|isa| isa.is_available()).collect()
    }

    /// The name that [`FromStr`] reads.
    pub fn name(self) -> &'static str {
        match self {
            Self::Portable => "portable",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
            Self::Avx512Bf16 => "avx512bf16",
            Self::Amx => "amx",
        }
    }
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The names of `sets`, as errors list them.
pub(crate) fn names(sets: &[Isa]) -> String {
    sets.iter().map(|isa| isa.name()).collect::<Vec<_>>().join(", ")
}

/// No instruction set has this name.
#[derive(Debug, thiserror::Error)]
#[error("unknown instruction set `{name}`; known are {}", names(&Isa::ALL))]
pub struct UnknownIsa {
    name: String,
}

impl FromStr for Isa {
    type Err = UnknownIsa;
    fn from_str(name: &str) -> Result<Self, UnknownIsa> {
        Self::ALL
            .into_iter()
            .find(|isa| isa.name() == name)
            .ok_or_else(|| UnknownIsa { name: name.to_owned() })
    }
}

/// Whether products of bf16 on vectors are faster than those of f32. AMD's processors (Zen 4: 466 for 233 GFLOP/s on two cores)
/// start as many of one as of the other, each with twice the multiply-adds. Intel's start a quarter as many (a Xeon with AMX
/// hidden: 178 for 360), so that only decoding, bound by memory, gains from them.
#[cfg(target_arch = "x86_64")]
fn dots_are_fast() -> bool {
    use std::arch::x86_64::__cpuid;

    let vendor = __cpuid(0); // CPUID.0: the name in EBX, EDX, ECX
    let name: Vec<u8> = [vendor.ebx, vendor.edx, vendor.ecx].into_iter().flat_map(u32::to_le_bytes).collect();
    name == b"AuthenticAMD"
}

/// No processor of another architecture has them.
#[cfg(not(target_arch = "x86_64"))]
fn dots_are_fast() -> bool {
    false
}

/// Whether the CPU multiplies bf16 tiles, the system saves them, and Linux lets this process use them.
#[cfg(target_arch = "x86_64")]
fn has_tiles() -> bool {
    use std::arch::x86_64::{__cpuid_count, _xgetbv};

    const BF16_AND_TILE: u32 = 1 << 22 | 1 << 24; // CPUID.(7,0):EDX, Intel SDM vol. 2A
    const TILE_STATE: u64 = 0b11 << 17; // XCR0: TILECFG, TILEDATA, Intel SDM vol. 1 §13.1

    __cpuid_count(7, 0).edx & BF16_AND_TILE == BF16_AND_TILE
        // SAFETY: AVX-512 was detected, which implies that the system has enabled XGETBV.
        && unsafe { _xgetbv(0) } & TILE_STATE == TILE_STATE
        && request_tiles()
}

/// Asks Linux for the permission to use tiles (Documentation/arch/x86/xstate.rst).
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
fn request_tiles() -> bool {
    const ARCH_REQ_XCOMP_PERM: libc::c_long = 0x1023;
    const XFEATURE_XTILEDATA: libc::c_long = 18;
    // SAFETY: the call takes two integers and touches none of the process's memory.
    unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0 }
}

/// Other systems have no such request; tiles are left alone there.
#[cfg(all(target_arch = "x86_64", not(target_os = "linux")))]
fn request_tiles() -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        for isa in Isa::ALL {
            assert_eq!(isa.name().parse::<Isa>().ok(), Some(isa));
        }
        assert!("sse9".parse::<Isa>().is_err());
    }

    #[test]
    fn the_best_is_available() {
        assert!(Isa::best().is_available() && Isa::Portable.is_available());
    }
}
