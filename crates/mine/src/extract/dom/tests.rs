//! The tree beside that of html5ever, which builds it as the standard says.

use std::borrow::Cow;
use std::cell::RefCell;

use html5ever::tendril::StrTendril;
use html5ever::tree_builder::{ElemName, ElementFlags, NodeOrText, QuirksMode, TreeSink};
use html5ever::{
    Attribute, LocalName, Namespace, QualName, local_name, ns, parse_document, tendril::TendrilSink,
};

use super::{Dom, Tag};
use crate::extract::Limits;

/// Runs of text in the order of the page, each with the tag of its element; those of one element that touch are one. Elements that
/// only mark letters, which browsers open again in the next block, are left out.
type Runs = Vec<(Tag, String)>;

fn push(runs: &mut Runs, tag: Tag, text: &str, joined: bool) {
    match runs.last_mut() {
        Some(last) if joined && last.0 == tag => last.1.push_str(text),
        _ => runs.push((tag, text.to_owned())),
    }
}

/// Without white space, of which the two trees differ in what they drop.
fn squeezed(runs: Runs) -> Runs {
    let squeeze = |text: String| text.split_whitespace().collect::<String>();
    let runs = runs.into_iter().map(|(tag, text)| (tag, squeeze(text)));
    runs.filter(|(tag, text)| !text.is_empty() && !matches!(tag, Tag::Head | Tag::Html)).collect()
}

fn ours(page: &str) -> Runs {
    let limits = Limits::default();
    let dom = Dom::parse(page, &limits);
    let mut runs = Runs::new();
    let mut last = None;
    for id in 0..dom.nodes.len() {
        if dom.tag(id) == Tag::Text {
            let mut parent = dom.parent(id);
            while dom.tag(parent).is_formatting() {
                parent = dom.parent(parent);
            }
            let tag = if dom.tag(parent) == Tag::Document { Tag::Body } else { dom.tag(parent) };
            push(&mut runs, tag, &dom.text(id), last == Some(parent));
            last = Some(parent);
        } else if !dom.tag(id).is_formatting() {
            last = None;
        }
    }
    squeezed(runs)
}

#[derive(Default)]
struct Node {
    name: Option<QualName>,
    text: Option<String>,
    parent: usize,
    children: Vec<usize>,
}

#[derive(Default)]
struct Sink(RefCell<Vec<Node>>);

#[derive(Debug)]
struct Name(QualName);

impl ElemName for Name {
    fn ns(&self) -> &Namespace {
        &self.0.ns
    }

    fn local_name(&self) -> &LocalName {
        &self.0.local
    }
}

impl Sink {
    fn add(&self, node: Node) -> usize {
        self.0.borrow_mut().push(node);
        self.0.borrow().len() - 1
    }

    fn put(&self, parent: usize, at: Option<usize>, child: NodeOrText<usize>) {
        let child = match child {
            NodeOrText::AppendNode(child) => {
                self.remove_from_parent(&child);
                child
            }
            NodeOrText::AppendText(text) => {
                self.add(Node { text: Some(text.to_string()), ..Node::default() })
            }
        };
        let mut nodes = self.0.borrow_mut();
        nodes[child].parent = parent;
        let at = at.unwrap_or(nodes[parent].children.len());
        nodes[parent].children.insert(at, child);
    }

    /// The runs of an element; `joined` says whether text goes on with the run before it.
    fn runs(&self, id: usize, tag: Tag, joined: &mut bool, runs: &mut Runs) {
        let nodes = self.0.borrow();
        for &child in &nodes[id].children {
            if let Some(text) = &nodes[child].text {
                push(runs, tag, text, *joined);
                *joined = true;
                continue;
            }
            // A comment has no name.
            let Some(name) = &nodes[child].name else { continue };
            let inner = Tag::of(&name.local);
            if inner.is_formatting() {
                self.runs(child, tag, joined, runs);
            } else {
                *joined = false;
                self.runs(child, inner, joined, runs);
                *joined = false;
            }
        }
    }
}

impl TreeSink for Sink {
    type Handle = usize;
    type Output = Self;
    type ElemName<'a> = Name;

    fn finish(self) -> Self {
        self
    }

    fn parse_error(&self, _: Cow<'static, str>) {}

    fn get_document(&self) -> usize {
        0
    }

    fn elem_name<'a>(&'a self, target: &'a usize) -> Name {
        Name(self.0.borrow()[*target].name.clone().unwrap_or(QualName::new(
            None,
            ns!(html),
            local_name!("html"),
        )))
    }

    fn create_element(&self, name: QualName, _: Vec<Attribute>, _: ElementFlags) -> usize {
        self.add(Node { name: Some(name), ..Node::default() })
    }

    fn create_comment(&self, _: StrTendril) -> usize {
        self.add(Node::default())
    }

    fn create_pi(&self, _: StrTendril, _: StrTendril) -> usize {
        self.add(Node::default())
    }

    fn append(&self, parent: &usize, child: NodeOrText<usize>) {
        self.put(*parent, None, child);
    }

    fn append_based_on_parent_node(&self, element: &usize, previous: &usize, child: NodeOrText<usize>) {
        let parent = self.0.borrow()[*element].parent;
        if self.0.borrow()[parent].children.contains(element) {
            self.append_before_sibling(element, child);
        } else {
            self.append(previous, child);
        }
    }

    fn append_doctype_to_document(&self, _: StrTendril, _: StrTendril, _: StrTendril) {}

    fn get_template_contents(&self, target: &usize) -> usize {
        *target
    }

    fn same_node(&self, a: &usize, b: &usize) -> bool {
        a == b
    }

    fn set_quirks_mode(&self, _: QuirksMode) {}

    fn append_before_sibling(&self, sibling: &usize, child: NodeOrText<usize>) {
        let parent = self.0.borrow()[*sibling].parent;
        let at = self.0.borrow()[parent].children.iter().position(|id| id == sibling);
        self.put(parent, at, child);
    }

    fn add_attrs_if_missing(&self, _: &usize, _: Vec<Attribute>) {}

    fn remove_from_parent(&self, target: &usize) {
        let mut nodes = self.0.borrow_mut();
        let parent = nodes[*target].parent;
        nodes[parent].children.retain(|id| id != target);
    }

    fn reparent_children(&self, node: &usize, parent: &usize) {
        let children = std::mem::take(&mut self.0.borrow_mut()[*node].children);
        for child in children {
            self.0.borrow_mut()[child].parent = *parent;
            self.0.borrow_mut()[*parent].children.push(child);
        }
    }
}

fn theirs(page: &str) -> Runs {
    let sink = Sink::default();
    sink.add(Node::default());
    let sink = parse_document(sink, html5ever::ParseOpts::default()).one(StrTendril::from(page));
    let mut runs = Runs::new();
    sink.runs(0, Tag::Document, &mut false, &mut runs);
    squeezed(runs)
}

#[test]
fn text_is_in_the_elements_where_browsers_put_it() {
    for page in [
        "<p>a<p>b<div>c</div>d",
        "<ul><li>a<li>b<ul><li>c</ul>d</ul>e",
        "<dl><dt>a<dd>b<dt>c<dd>d</dl>",
        "<table><tr><td>a<td>b<tr><th>c</table>d",
        "<table><caption>a<tbody><tr><td><table><tr><td>b</table>c</table>d",
        "<p>a<table><tr><td>b</table>c",
        "<div>a</span>b</div></div>c",
        "<b>a<p>b</p></b>c",
        "<a href=1>a<a href=2>b</a>c",
        "<div><p>a</div>b</p>c",
        "<h1>a<h2>b</h2>c",
        "<title>a</title>b<script>c</script>d<style>e</style>f",
        "<head><meta charset=x><body><p>a</body>b</html>c",
        "a<br>b</br>c<hr>d<img>e",
        "<math><mi>x</mi><mo>&lt;</mo></math>a<svg><g/>b</svg>c",
        "<math><mi>x<p>a</p></math>b",
        "<math><mrow><p>a</p></mrow></math>b",
        "<select><option>a<option>b</select>c",
        "<button>a<p>b</button>c",
        "<p>a &lt; b &amp; c &copy d",
        "<textarea><p>a</textarea>b<xmp><b>c</xmp>d",
        "<!-- a --><!doctype html>b<!-->c-->d<?e>f</ g>h",
        "<p>a<ul><li>b<p>c</li>d</ul>e",
        "<ruby>a<rp>(<rt>b<rp>)</ruby>c",
    ] {
        let page = format!("<!doctype html>{page}");
        assert_eq!(ours(&page), theirs(&page), "{page}");
    }
}

#[test]
fn whole_pages_have_the_same_text_in_the_same_elements() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/pages");
    let mut pages = 0;
    for entry in std::fs::read_dir(folder).expect("the folder is there").flatten() {
        if entry.path().extension().is_some_and(|extension| extension == "html") {
            let page = std::fs::read_to_string(entry.path()).expect("it is text");
            let page = format!("<!doctype html>{page}");
            assert_eq!(ours(&page), theirs(&page), "{}", entry.path().display());
            pages += 1;
        }
    }
    assert!(pages > 10);
}
