//! Words by which pages name what is not their content, in any design: classes, roles and phrases.

use std::sync::LazyLock;

use aho_corasick::AhoCorasick;

/// Words in a class or an id, on their own.
#[rustfmt::skip]
const PARTS: &[&str] = &[
    "actions", "ad", "ads", "adsense", "adslot", "adunit", "authorbox", "avatar", "badge", "badges", "banner", "breadcrumb",
    "breadcrumbs", "buttons", "byline", "categories", "catlinks", "consent", "cookie", "cookies", "copyright", "credits",
    "crumbs", "donate", "editsection", "favorites", "flyout", "follow", "foot", "footer", "footnav", "gdpr", "hamburger",
    "headerbar", "headerlink", "jump", "legal", "linklist", "locale", "login", "logo", "masthead", "menu", "menubar",
    "metadata", "modal", "nav", "navbar", "navbox", "navi", "navigation", "navlinks", "newsletter", "nomobile", "noprint",
    "notifications", "pagenav", "pager", "pagination", "paging", "permalink", "popular", "popup", "postmeta", "postprofile",
    "prevnext", "printfooter", "profile", "promo", "promoted", "promotion", "rating", "ratings", "recommend",
    "recommendations", "recommended", "register", "related", "reputation", "respond", "rss", "search", "searchbox",
    "searchform", "share", "sharebar", "sharethis", "sharing", "sidebar", "sidenav", "signature", "signin", "signup",
    "sitemap", "skip", "skiplink", "social", "socials", "sponsor", "sponsored", "sponsors", "subscribe", "subscription",
    "suggested", "suggestions", "tagcloud", "taglist", "tags", "toast", "toc", "toolbar", "toolbox", "tools", "topbar",
    "toplinks", "topmenu", "trending", "userbox", "usercard", "userinfo", "utility", "views", "vote", "votecell", "votes",
    "voting", "widget", "widgets",
];

/// Beginnings of such words, where designs put more behind.
const BEGINNINGS: &[&str] = &[
    "advert",
    "breadcrumb",
    "cookie",
    "copyright",
    "footer",
    "masthead",
    "navigat",
    "newsletter",
    "paginat",
    "recommend",
    "sharedaddy",
    "sidebar",
    "socialmedia",
    "sponsor",
    "subscri",
    "toolbar",
];

/// Ends of such words.
const ENDS: &[&str] = &[
    "breadcrumb",
    "breadcrumbs",
    "footer",
    "menu",
    "navbar",
    "nav",
    "navigation",
    "sidebar",
    "toolbar",
    "topbar",
    "widget",
];

/// Pairs of words that mean so together.
const PAIRS: &[(&str, &str)] = &[
    ("user", "details"),
    ("message", "user"),
    ("user", "extras"),
    ("user", "title"),
    ("user", "name"),
    ("user", "info"),
    ("user", "card"),
    ("post", "meta"),
    ("entry", "meta"),
    ("article", "meta"),
    ("page", "header"),
    ("site", "header"),
    ("mw", "panel"),
    ("mw", "head"),
    ("author", "bio"),
    ("author", "info"),
    ("about", "author"),
    ("see", "also"),
    ("read", "more"),
    ("read", "next"),
    ("more", "from"),
    ("also", "like"),
    ("comment", "form"),
    ("reply", "form"),
    ("back", "top"),
    ("to", "top"),
    ("lang", "switch"),
    ("language", "switcher"),
    ("sr", "only"),
    ("visually", "hidden"),
    ("screen", "reader"),
    ("right", "rail"),
    ("left", "rail"),
    ("side", "bar"),
    ("bottom", "bar"),
    ("top", "bar"),
    ("quick", "links"),
    ("add", "comment"),
    ("post", "author"),
    ("post", "info"),
    ("post", "tags"),
    ("hot", "network"),
];

/// Phrases of lines that are not content, where they are short: in lower case.
const PHRASES: &[&str] = &[
    // Rights, and what a page is made with.
    "all rights reserved",
    "powered by",
    "copyright ©",
    "© 20",
    "© 19",
    "&copy;",
    "terms of service",
    "terms of use",
    "terms and conditions",
    "privacy policy",
    "privacy notice",
    "cookie policy",
    "additional terms may apply",
    "available under a ",
    "available under the ",
    "hosted by",
    "built with",
    "theme by",
    "designed by",
    "tous droits réservés",
    "alle rechte vorbehalten",
    "todos los derechos reservados",
    "все права защищены",
    "版权所有",
    "未经许可",
    "保留所有权利",
    "all rights are reserved",
    "wszelkie prawa",
    "tutti i diritti",
    "todos os direitos",
    "mentions légales",
    "impressum",
    "datenschutz",
    "aviso legal",
    "политика конфиденциальности",
    // Consent.
    "use cookies",
    "uses cookies",
    "using cookies",
    "accept cookies",
    "all cookies",
    "our cookies",
    "cookie settings",
    "verwendet cookies",
    "verwenden cookies",
    "utilise des cookies",
    "utilisons des cookies",
    "usa cookies",
    "utiliza cookies",
    "usamos cookies",
    "использует cookie",
    "使用cookie",
    "使用 cookie",
    "缓存文件",
    // Accounts.
    "log in",
    "login",
    "sign in",
    "sign up",
    "register",
    "forgot password",
    "forgotten password",
    "forgot your password",
    "create an account",
    "remember me",
    "se connecter",
    "s'inscrire",
    "mot de passe",
    "anmelden",
    "registrieren",
    "iniciar sesión",
    "regístrate",
    "войти",
    "регистрация",
    "登录",
    "注册",
    "忘记密码",
    "ログイン",
    // Other pages.
    "you may also like",
    "you might also like",
    "related articles",
    "related posts",
    "related questions",
    "related topics",
    "recommended for you",
    "read more",
    "more from",
    "see also:",
    "猜你喜欢",
    "相关文章",
    "相关推荐",
    "相关阅读",
    "热门推荐",
    "上一篇",
    "下一篇",
    "lire aussi",
    "articles similaires",
    "das könnte",
    "también te puede",
    "читайте также",
    // Sharing and letters.
    "newsletter",
    "subscribe",
    "follow us",
    "share this",
    "share on",
    "share via",
    "tweet this",
    "email this",
    "print this",
    "分享到",
    "订阅",
    "扫一扫",
    "关注我们",
    "abonnez-vous",
    "suivez-nous",
    "teilen auf",
    "abonnieren",
    "suscríbete",
    "síguenos",
    "подписаться",
    "поделиться",
    // Tools of the page.
    "skip to content",
    "skip to main",
    "jump to navigation",
    "jump to content",
    "back to top",
    "reply with quote",
    "leave a comment",
    "leave a reply",
    "post a comment",
    "add a comment",
    "add to cart",
    "add to basket",
    "edit section",
    "edit source",
    "what links here",
    "permanent link",
    "advertisement",
    "report abuse",
    "report this",
    "引用回复",
    "发表评论",
    "返回顶部",
    "loading...",
    "enable javascript",
    "javascript is disabled",
    "requires javascript",
    "last modified",
    "last updated",
    "last edited",
    "page views",
    "table of contents",
];

/// Whether a class or an id says that the element is not content.
pub(super) fn names_boilerplate(names: &str) -> bool {
    let mut previous = String::new();
    let mut word = String::new();
    let mut lower = false;
    for character in names.chars().chain([' ']) {
        let ends_word = !character.is_alphabetic() || character.is_uppercase() && lower;
        if ends_word && !word.is_empty() {
            if is_boilerplate_word(&word)
                || PAIRS.iter().any(|(first, second)| *first == previous && *second == word)
            {
                return true;
            }
            previous = std::mem::take(&mut word);
        }
        if character.is_alphabetic() {
            word.extend(character.to_lowercase());
        }
        if character.is_ascii_whitespace() {
            previous.clear();
        }
        lower = character.is_lowercase();
    }
    false
}

fn is_boilerplate_word(word: &str) -> bool {
    PARTS.binary_search(&word).is_ok()
        || BEGINNINGS.iter().any(|start| word.starts_with(start))
        || ENDS.iter().any(|end| word.len() > end.len() && word.ends_with(end))
}

/// Whether a short text has a phrase of notices, buttons and links.
pub(super) fn is_notice(text: &str) -> bool {
    static MATCHER: LazyLock<AhoCorasick> =
        LazyLock::new(|| AhoCorasick::new(PHRASES).expect("a short list of short phrases"));
    MATCHER.is_match(&text.to_lowercase())
}

#[cfg(test)]
mod tests {
    use super::{PARTS, is_notice, names_boilerplate};

    #[test]
    fn names_are_read_by_word() {
        assert!(PARTS.is_sorted(), "{:?}", PARTS.windows(2).find(|pair| pair[0] > pair[1]));
        for name in [
            "nav",
            "main-nav",
            "topMenu",
            "sphinxsidebar",
            "cookie-banner",
            "site_footer",
            "mw-panel",
            "post user-details",
            "sharedaddy",
            "navlinks",
            "relatedPosts",
        ] {
            assert!(names_boilerplate(name), "{name}");
        }
        for name in [
            "content",
            "post-body",
            "entry-content",
            "navier-stokes",
            "address",
            "advanced",
            "gradient",
            "theorem",
            "question-header",
            "shared-vector",
            "adjoint",
            "stage",
            "mainbar",
            "mw-body",
        ] {
            assert!(!names_boilerplate(name), "{name}");
        }
        assert!(is_notice("© 2019 Someone. ALL RIGHTS RESERVED"));
        assert!(!is_notice("Anna has twelve cookies and eats three."));
    }
}
