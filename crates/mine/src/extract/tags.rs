//! The elements that extraction knows by name.

macro_rules! tags {
    ($($tag:ident $name:literal),* $(,)?) => {
        /// An element's name.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Tag {
            /// Not an element: a run of text.
            Text,
            /// The document itself.
            Document,
            /// A name that nothing here asks for.
            Other,
            $($tag),*
        }

        #[allow(non_upper_case_globals, reason = "the constants are named after the tags")]
        mod packed {
            $(pub(super) const $tag: u128 = super::pack($name.as_bytes());)*
        }

        impl Tag {
            /// The tag of this name, in any case. A prefix for MathML's namespace (`m:math`) is ignored.
            pub(crate) fn of(name: &str) -> Self {
                let local = match name.as_bytes() {
                    [b'm' | b'M', b':', rest @ ..] | [b'm' | b'M', b'm' | b'M', b'l' | b'L', b':', rest @ ..] => rest,
                    name => name,
                };
                match pack(local) {
                    $(packed::$tag => Self::$tag,)*
                    _ => Self::Other,
                }
            }
        }
    };
}

/// The first sixteen bytes of a name in lower case, as one number.
const fn pack(name: &[u8]) -> u128 {
    let mut packed = 0;
    let mut at = 0;
    while at < name.len() && at < 16 {
        packed = packed << 8 | name[at].to_ascii_lowercase() as u128;
        at += 1;
    }
    packed
}

tags! {
    A "a", Abbr "abbr", Acronym "acronym", Address "address", Annotation "annotation", AnnotationXml "annotation-xml", Applet "applet",
    Area "area", Article "article", Aside "aside", Audio "audio", B "b", Base "base", Big "big", Blockquote "blockquote", Body "body", Br "br",
    Button "button", Canvas "canvas", Caption "caption", Center "center", Cite "cite", Code "code", Col "col", Colgroup "colgroup",
    Datalist "datalist", Dd "dd", Del "del", Desc "desc", Details "details", Dialog "dialog", Dir "dir", Div "div", Dl "dl", Dt "dt", Em "em",
    Embed "embed", Fieldset "fieldset", Figcaption "figcaption", Figure "figure", Font "font", Footer "footer", ForeignObject "foreignobject",
    Form "form", Frameset "frameset", H1 "h1", H2 "h2", H3 "h3", H4 "h4", H5 "h5", H6 "h6", Head "head", Header "header", Hgroup "hgroup", Hr "hr",
    Html "html", I "i", Iframe "iframe", Img "img", Input "input", Ins "ins", Kbd "kbd", Label "label", Legend "legend", Li "li", Link "link",
    Listing "listing", Maction "maction", Main "main", Maligngroup "maligngroup", Malignmark "malignmark", Map "map", Marquee "marquee",
    Math "math", MathRenderer "math-renderer", Menclose "menclose", Menu "menu", Merror "merror", Meta "meta", Mfenced "mfenced", Mfrac "mfrac",
    Mglyph "mglyph", Mi "mi", MjxAssistive "mjx-assistive-mml", MjxContainer "mjx-container", MjxMath "mjx-math", Mlabeledtr "mlabeledtr",
    Mmultiscripts "mmultiscripts", Mn "mn", Mo "mo", Mover "mover", Mpadded "mpadded", Mphantom "mphantom", Mprescripts "mprescripts",
    Mroot "mroot", Mrow "mrow", Ms "ms", Mspace "mspace", Msqrt "msqrt", Mstyle "mstyle", Msub "msub", Msubsup "msubsup", Msup "msup",
    Mtable "mtable", Mtd "mtd", Mtext "mtext", Mtr "mtr", Munder "munder", Munderover "munderover", Nav "nav", Nobr "nobr", Noembed "noembed",
    Noframes "noframes", None_ "none", Noscript "noscript", Object "object", Ol "ol", Optgroup "optgroup", Option_ "option", P "p", Param "param",
    Picture "picture", Plaintext "plaintext", Pre "pre", Progress "progress", Q "q", Rp "rp", Rt "rt", Ruby "ruby", S "s", Samp "samp",
    Script "script", Search "search", Section "section", Select "select", Semantics "semantics", Slot "slot", Small "small", Source "source",
    Span "span", Strike "strike", Strong "strong", Style "style", Sub "sub", Summary "summary", Sup "sup", Svg "svg", Table "table",
    Tbody "tbody", Td "td", Template "template", TexMath "tex-math", Textarea "textarea", Tfoot "tfoot", Th "th", Thead "thead", Time "time",
    Title "title", Tr "tr", Track "track", Tt "tt", U "u", Ul "ul", Var "var", Video "video", Wbr "wbr", Xmp "xmp",
}

impl Tag {
    /// Whether the element has no content and no end tag.
    pub(crate) fn is_void(self) -> bool {
        matches!(
            self,
            Self::Area
                | Self::Base
                | Self::Br
                | Self::Col
                | Self::Embed
                | Self::Hr
                | Self::Img
                | Self::Input
                | Self::Link
                | Self::Meta
                | Self::Param
                | Self::Source
                | Self::Track
                | Self::Wbr
        )
    }

    /// Whether the element's content is text without markup, up to its end tag.
    pub(crate) fn is_raw(self) -> bool {
        matches!(
            self,
            Self::Script
                | Self::Style
                | Self::Textarea
                | Self::Title
                | Self::Xmp
                | Self::Iframe
                | Self::Noembed
                | Self::Noframes
                | Self::Noscript
        )
    }

    /// Whether the element may stand in `head`.
    pub(crate) fn is_in_head(self) -> bool {
        matches!(
            self,
            Self::Base
                | Self::Link
                | Self::Meta
                | Self::Noscript
                | Self::Script
                | Self::Style
                | Self::Template
                | Self::Title
                | Self::Head
        )
    }

    /// Whether the element marks letters, and ends where a block around it ends.
    pub(crate) fn is_formatting(self) -> bool {
        matches!(
            self,
            Self::A
                | Self::B
                | Self::Big
                | Self::Code
                | Self::Em
                | Self::Font
                | Self::I
                | Self::Nobr
                | Self::S
                | Self::Small
                | Self::Strike
                | Self::Strong
                | Self::Tt
                | Self::U
        )
    }

    /// Whether the element starts a heading.
    pub(crate) fn heading(self) -> Option<u8> {
        Some(match self {
            Self::H1 => 1,
            Self::H2 => 2,
            Self::H3 => 3,
            Self::H4 => 4,
            Self::H5 => 5,
            Self::H6 => 6,
            _ => return None,
        })
    }

    /// Whether the element ends an open paragraph, as its start tag does in HTML.
    pub(crate) fn closes_paragraph(self) -> bool {
        self.heading().is_some()
            || matches!(
                self,
                Self::Address
                    | Self::Article
                    | Self::Aside
                    | Self::Blockquote
                    | Self::Center
                    | Self::Details
                    | Self::Dialog
                    | Self::Dir
                    | Self::Div
                    | Self::Dl
                    | Self::Dd
                    | Self::Dt
                    | Self::Fieldset
                    | Self::Figcaption
                    | Self::Figure
                    | Self::Footer
                    | Self::Form
                    | Self::Header
                    | Self::Hgroup
                    | Self::Hr
                    | Self::Li
                    | Self::Listing
                    | Self::Main
                    | Self::Menu
                    | Self::Nav
                    | Self::Ol
                    | Self::P
                    | Self::Plaintext
                    | Self::Pre
                    | Self::Search
                    | Self::Section
                    | Self::Summary
                    | Self::Table
                    | Self::Ul
                    | Self::Xmp
            )
    }

    /// Whether the element is laid out as a block of its own.
    pub(crate) fn is_block(self) -> bool {
        self.closes_paragraph()
            || matches!(
                self,
                Self::Body
                    | Self::Caption
                    | Self::Colgroup
                    | Self::Html
                    | Self::Iframe
                    | Self::Legend
                    | Self::Marquee
                    | Self::Optgroup
                    | Self::Option_
                    | Self::Tbody
                    | Self::Td
                    | Self::Tfoot
                    | Self::Th
                    | Self::Thead
                    | Self::Tr
                    | Self::Document
            )
    }

    /// Whether an end tag inside the element does not reach out of it.
    pub(crate) fn is_scope(self) -> bool {
        matches!(
            self,
            Self::Applet
                | Self::Caption
                | Self::Table
                | Self::Td
                | Self::Th
                | Self::Marquee
                | Self::Object
                | Self::Template
                | Self::Document
                | Self::Math
                | Self::Svg
                | Self::ForeignObject
        )
    }

    /// Whether HTML inside of this element of MathML or SVG is HTML again.
    pub(crate) fn is_integration_point(self) -> bool {
        matches!(
            self,
            Self::Mi
                | Self::Mo
                | Self::Mn
                | Self::Ms
                | Self::Mtext
                | Self::AnnotationXml
                | Self::ForeignObject
                | Self::Desc
                | Self::Title
        )
    }
}

#[cfg(test)]
mod tests {
    use super::Tag;

    #[test]
    fn names_are_known_in_any_case_and_with_a_prefix() {
        assert_eq!(Tag::of("DIV"), Tag::Div);
        assert_eq!(Tag::of("mjx-assistive-mml"), Tag::MjxAssistive);
        assert_eq!(Tag::of("mml:mfrac"), Tag::Mfrac);
        assert_eq!(Tag::of("m:math"), Tag::Math);
        assert_eq!(Tag::of("divx"), Tag::Other);
        assert_eq!(Tag::of("mjx-mi"), Tag::Other);
    }
}
