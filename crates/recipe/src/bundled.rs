//! The recipes that come within the program, so that a name is enough.

use std::path::Path;

use crate::{RecipeError, recipe::nearest};

/// A recipe that comes within the program.
#[derive(Clone, Copy, Debug)]
pub struct Bundled {
    /// Its name.
    pub name: &'static str,
    /// What its file holds.
    pub text: &'static str,
}

macro_rules! bundled {
    ($($name:literal),*) => {
        &[$(Bundled { name: $name, text: include_str!(concat!("../../../recipes/", $name, ".toml")) }),*]
    };
}

/// All of them, in the order in which they are listed.
pub const BUNDLED: &[Bundled] = bundled![
    "demo",
    "r1-tiny",
    "r1-smollm2",
    "self-taught-arithmetic",
    "tinyzero-countdown",
    "open-r1",
    "tulu3",
    "deepseekmath-rl",
    "v3-tiny",
    "r1"
];

impl Bundled {
    /// The recipe that `named` names; none if it names a file, which goes before a recipe of the same name.
    ///
    /// # Errors
    /// If it is neither: what there is, and the nearest.
    pub(crate) fn find(named: &Path) -> Result<Option<&'static Self>, RecipeError> {
        if named.exists() && !named.is_dir() {
            return Ok(None);
        }
        let of_name = |name: &Path| BUNDLED.iter().find(|bundled| Path::new(bundled.name) == name);
        if let Some(bundled) = of_name(named) {
            return Ok(Some(bundled));
        }
        let unknown = |message: String| RecipeError::Unknown { message };
        let is_file = named.components().count() != 1 || named.extension().is_some_and(|e| e == "toml");
        if is_file || named.exists() {
            let stem = named.file_stem().map(Path::new);
            return match stem.and_then(of_name).filter(|_| !named.exists()) {
                None => Ok(None),
                Some(Self { name, .. }) => Err(unknown(format!(
                    "`{}` is not there; the recipe of this name that comes with koan is `{name}`",
                    named.display()
                ))),
            };
        }
        let names: Vec<&str> = BUNDLED.iter().map(|bundled| bundled.name).collect();
        let name = named.to_string_lossy();
        Err(unknown(format!("there is no file `{name}`; {}", nearest("recipe", &name, &names))))
    }

    /// The one of this name.
    ///
    /// # Errors
    /// If there is none: what there is, and the nearest.
    pub fn named(name: &str) -> Result<&'static Self, RecipeError> {
        let names: Vec<&str> = BUNDLED.iter().map(|bundled| bundled.name).collect();
        let message = || nearest("recipe", name, &names);
        let found = BUNDLED.iter().find(|bundled| bundled.name == name);
        found.ok_or_else(|| RecipeError::Unknown { message: message() })
    }

    /// What it is, in one line: the first of its comment.
    pub fn about(&self) -> &'static str {
        self.text.lines().next().unwrap_or_default().trim_start_matches('#').trim()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::{Changes, Recipe};

    #[test]
    fn each_recipe_of_the_project_is_bundled_and_says_what_it_is_in_its_first_line() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../recipes");
        let mut names = Vec::new();
        for entry in fs::read_dir(folder).expect("recipes") {
            let path = entry.expect("an entry").path();
            if path.is_file() && fs::read_to_string(&path).expect("read").contains("\n[[step]]") {
                names.push(path.file_stem().expect("a name").to_string_lossy().into_owned());
            }
        }
        names.sort();
        let mut bundled: Vec<&str> = BUNDLED.iter().map(|bundled| bundled.name).collect();
        bundled.sort_unstable();
        assert_eq!(bundled, names);
        for bundled in BUNDLED {
            assert!(bundled.text.starts_with("# ") && bundled.about().ends_with('.'), "{}", bundled.name);
            let recipe = Recipe::read(Path::new(bundled.name), &Changes::default()).expect(bundled.name);
            assert_eq!(recipe.run_dir, Path::new("runs").join(bundled.name));
            assert_eq!(recipe.path, Path::new(bundled.name));
        }
    }

    #[test]
    fn a_name_that_is_none_is_said_with_the_nearest() {
        let refused = |name: &str| {
            let error = Recipe::read(Path::new(name), &Changes::default()).expect_err(name);
            error.to_string()
        };
        let error = refused("self-taught-arithmetics");
        assert!(error.starts_with("there is no file `self-taught-arithmetics`; unknown recipe `"), "{error}");
        assert!(error.contains("did you mean `self-taught-arithmetic`?"), "{error}");
        let error = refused("none/self-taught-arithmetic.toml");
        assert!(error.contains("that comes with koan is `self-taught-arithmetic`"), "{error}");
        assert!(refused("none.toml").contains("cannot read the recipe `none.toml`"));
        assert!(Bundled::named("r").expect_err("no name").to_string().contains("`self-taught-arithmetic`"));
    }
}
