//! `--cache`: what latent attention caches, and so by which form it is computed.

use koan_model::CacheForm;

/// What latent attention caches.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct CacheArg {
    /// What latent attention (deepseek_v2 and deepseek_v3) caches of a token, and computes with in all passes: the keys and values of
    /// all heads, or the latent that they are expanded from. The latent takes a fraction of the memory, and long contexts are read
    /// faster; training takes longer. Results differ by rounding
    #[arg(long, value_enum, default_value_t = Cache::Expanded, value_name = "FORM")]
    cache: Cache,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Cache {
    Expanded,
    Latent,
}

impl CacheArg {
    pub(crate) fn get(self) -> CacheForm {
        match self.cache {
            Cache::Expanded => CacheForm::Expanded,
            Cache::Latent => CacheForm::Latent,
        }
    }
}

/// What records say of a form that is not the usual one.
pub(crate) fn name_of(cache: CacheForm) -> Option<&'static str> {
    match cache {
        CacheForm::Expanded => None,
        CacheForm::Latent => Some("latent"),
    }
}
