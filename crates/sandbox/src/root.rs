//! The file tree that a contained program sees: the interpreter, its libraries, its standard library, and
//! nothing else. Everything has the same path as outside, so that loader and interpreter find it.

use crate::Interpreter;
use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};
use std::{fs, io};

/// More symbolic links than this on the way to a file are taken for a loop.
const MAX_LINKS: usize = 40;
/// Folders of the standard library that hold what others installed.
const NOT_STANDARD: [&str; 2] = ["site-packages", "dist-packages"];

/// What is at a path of the tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Node {
    /// An empty folder, to hold others.
    Folder,
    /// A symbolic link.
    Link(PathBuf),
    /// The folder of this path outside.
    BindFolder,
    /// The file of this path outside.
    BindFile,
    /// An empty folder over a bound one.
    Hidden,
}

/// The tree, parents before children.
#[derive(Debug)]
pub(crate) struct Root {
    pub(crate) nodes: BTreeMap<PathBuf, Node>,
}

impl Root {
    /// The tree for `interpreter`.
    pub(crate) fn of(interpreter: &Interpreter) -> io::Result<Self> {
        let mut root = Self { nodes: BTreeMap::new() };
        for folder in &interpreter.path {
            root.bind(folder)?;
            for name in NOT_STANDARD {
                let installed = folder.join(name);
                if installed.is_dir() {
                    root.nodes.insert(installed, Node::Hidden);
                }
            }
        }
        root.bind(&interpreter.executable)?;
        for library in &interpreter.libraries {
            if !root.covers(library) {
                root.bind(library)?;
                root.bind_aliases(library)?;
            }
        }
        for path in ["/lib", "/lib64", "/etc/ld.so.cache"].map(Path::new) {
            if path.exists() && !path.symlink_metadata()?.is_dir() {
                root.follow(path)?;
            }
        }
        if let Some(loader) = &interpreter.loader {
            root.follow(loader)?;
        }
        Ok(root)
    }

    /// What is bound from outside: what a contained program may read.
    pub(crate) fn bound(&self) -> impl Iterator<Item = (&Path, &Node)> {
        let bound = |node: &&Node| matches!(node, Node::BindFile | Node::BindFolder);
        self.nodes.iter().filter(move |(_, node)| bound(node)).map(|(path, node)| (path.as_path(), node))
    }

    /// Binds `path`, which is canonical, and makes the folders above it.
    fn bind(&mut self, path: &Path) -> io::Result<()> {
        if self.covers(path) {
            return Ok(());
        }
        let node = if fs::metadata(path)?.is_dir() { Node::BindFolder } else { Node::BindFile };
        self.folders_above(path);
        self.nodes.insert(path.to_owned(), node);
        Ok(())
    }

    /// Whether `path` is a bound folder, or inside one.
    fn covers(&self, path: &Path) -> bool {
        path.ancestors().any(|above| self.nodes.get(above) == Some(&Node::BindFolder))
    }

    fn folders_above(&mut self, path: &Path) {
        for above in path.ancestors().skip(1).filter(|above| above.parent().is_some()) {
            self.nodes.entry(above.to_owned()).or_insert(Node::Folder);
        }
    }

    /// The links beside `library` that lead to it: the names by which programs ask for it.
    fn bind_aliases(&mut self, library: &Path) -> io::Result<()> {
        let Some(folder) = library.parent() else { return Ok(()) };
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let path = entry.path();
            if entry.file_type()?.is_symlink() && fs::canonicalize(&path).is_ok_and(|real| real == library) {
                self.nodes.insert(path, Node::Link(library.to_owned()));
            }
        }
        Ok(())
    }

    /// Makes `path` lead to the same place as outside: every symbolic link on its way, and, if it ends in a file,
    /// that file.
    fn follow(&mut self, path: &Path) -> io::Result<()> {
        let mut todo = path.to_owned();
        for _ in 0..MAX_LINKS {
            let mut at = PathBuf::new();
            let mut components = todo.components();
            let link = loop {
                let Some(component) = components.next() else { break None };
                match component {
                    Component::ParentDir => {
                        at.pop();
                    }
                    other => at.push(other),
                }
                if at.symlink_metadata()?.is_symlink() {
                    break Some(fs::read_link(&at)?);
                }
            };
            let Some(target) = link else {
                return if at.is_file() { self.bind(&at) } else { Ok(()) };
            };
            let rest = components.as_path().to_owned();
            self.folders_above(&at);
            let next = at.parent().unwrap_or(Path::new("/")).join(&target);
            self.nodes.insert(at, Node::Link(target));
            todo = next.join(rest);
        }
        Err(io::Error::other(format!("too many symbolic links on the way to {}", path.display())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_path_leads_where_it_leads_outside() {
        let folder = tempfile::tempdir().expect("a folder");
        let base = folder.path().canonicalize().expect("canonical");
        fs::create_dir_all(base.join("usr/lib")).expect("folders");
        fs::write(base.join("usr/lib/loader.so.2"), "").expect("a file");
        symlink("usr/lib", base.join("lib")).expect("a link");
        symlink("../lib/loader.so.2", base.join("usr/lib/loader.so")).expect("a link");
        let mut root = Root { nodes: BTreeMap::new() };
        root.follow(&base.join("lib/loader.so")).expect("follows");
        assert_eq!(root.nodes[&base.join("lib")], Node::Link("usr/lib".into()));
        assert_eq!(root.nodes[&base.join("usr/lib/loader.so")], Node::Link("../lib/loader.so.2".into()));
        assert_eq!(root.nodes[&base.join("usr/lib/loader.so.2")], Node::BindFile);
        assert_eq!(root.nodes[&base], Node::Folder);

        symlink("loop", base.join("loop")).expect("a link");
        assert!(root.follow(&base.join("loop")).is_err());
    }

    #[test]
    fn what_lies_in_a_bound_folder_is_not_bound_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let base = folder.path().canonicalize().expect("canonical");
        fs::write(base.join("file"), "").expect("a file");
        let mut root = Root { nodes: BTreeMap::new() };
        root.bind(&base).expect("binds");
        root.bind(&base.join("file")).expect("binds");
        assert_eq!(root.bound().map(|(path, _)| path).collect::<Vec<_>>(), [base.as_path()]);
    }
}
