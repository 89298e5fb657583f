use std::error::Error as _;

use proptest::prelude::*;

use super::*;

fn template(source: &str) -> ChatTemplate {
    let tokens = [("bos_token", "<s>"), ("eos_token", "</s>")];
    let tokens = tokens.into_iter().map(|(name, token)| (name.to_owned(), token.to_owned())).collect();
    ChatTemplate::new(source, &tokens).expect("a valid template")
}

fn render(source: &str, messages: &[(&str, &str)]) -> String {
    let messages: Vec<_> = messages.iter().map(|&(role, content)| Message::new(role, content)).collect();
    template(source).render(&messages, true).expect("a template that renders")
}

/// ChatML with a system prompt of its own when the conversation has none, as SmolLM2 writes it.
#[test]
fn chatml_with_a_default_system_prompt() {
    let source = "{% for message in messages %}\
        {% if loop.first and messages[0]['role'] != 'system' %}\
        {{ '<|im_start|>system\nBe kind<|im_end|>\n' }}{% endif %}\
        {{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}\
        {% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";
    let question = "<|im_start|>user\n2 + 2 < 5?<|im_end|>\n<|im_start|>assistant\n";
    assert_eq!(
        render(source, &[("user", "2 + 2 < 5?")]),
        format!("<|im_start|>system\nBe kind<|im_end|>\n{question}")
    );
    assert_eq!(
        render(source, &[("system", "Be brief"), ("user", "2 + 2 < 5?")]),
        format!("<|im_start|>system\nBe brief<|im_end|>\n{question}")
    );
    let told = template(source).render(&[Message::new("user", "é")], false).expect("a rendered template");
    assert!(told.ends_with("<|im_start|>user\né<|im_end|>\n"));
}

/// Macros, `namespace`, reversed lists, Python's string methods: past thinking is dropped, as Qwen 3 does.
#[test]
fn past_thinking_is_dropped() {
    let source = r"
{%- set ns = namespace(last_user=-1) %}
{%- for message in messages[::-1] %}
    {%- if message.role == 'user' and ns.last_user < 0 %}
        {%- set ns.last_user = (messages | length) - 1 - loop.index0 %}
    {%- endif %}
{%- endfor %}
{%- macro turn(role, content) %}{{ '<|im_start|>' ~ role ~ '\n' ~ content ~ '<|im_end|>\n' }}{% endmacro %}
{%- for message in messages %}
    {%- set content = message.content if message.content is string else '' %}
    {%- if loop.index0 < ns.last_user and '</think>' in content %}
        {%- set content = content.split('</think>')[-1].lstrip('\n') %}
    {%- endif %}
    {{- turn(message.role, content) }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>\n' }}{%- endif %}
{%- endif %}
";
    let turns = [("user", "a"), ("assistant", "<think>\nhm\n</think>\n\nb"), ("user", "c")];
    assert_eq!(
        render(source, &turns),
        "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\nb<|im_end|>\n<|im_start|>user\nc<|im_end|>\n\
         <|im_start|>assistant\n"
    );
}

/// Special tokens, `strftime_now` with its fixed day, `trim`, block whitespace control, as Llama 3 has them.
#[test]
fn the_date_is_fixed_and_blocks_leave_no_whitespace() {
    let source = "{{- bos_token }}
{%- if strftime_now is defined %}
    {%- set date = strftime_now('%d %b %Y') %}
{%- else %}
    {%- set date = '26 Jul 2024' %}
{%- endif %}
{%- if tools is not none or documents is not none %}{{ raise_exception('no tools') }}{%- endif %}
    {% if messages[0].role == 'system' %}
{{ messages[0].content | trim }} {{ date }}
    {% set messages = messages[1:] %}
    {% endif %}
{% for m in messages %}
{{ '<|' + m['role'] + '|>' }}{{ m['content'] | trim }}{{ eos_token }}
{% endfor %}
";
    assert_eq!(
        render(source, &[("system", " s\n"), ("user", " u ")]),
        "<s>s 26 Jul 2024\n<|system|>s</s>\n<|user|>u</s>\n".replacen("<|system|>s</s>\n", "", 1)
    );
}

#[test]
fn json_is_written_as_python_writes_it() {
    let source = "{{ messages | tojson }}|{{ {'a': [1, true, none]} | tojson(indent=2) }}";
    assert_eq!(
        render(source, &[("user", "<é & \"q\">")]),
        r#"[{"role": "user", "content": "<é & \"q\">"}]|{
  "a": [
    1,
    true,
    null
  ]
}"#
    );
}

#[test]
fn generation_tags_and_loop_controls() {
    let source = "{% for m in messages %}{% if m.role == 'stop' %}{% break %}{% endif %}\r\n\
        {%- generation -%}  {{ m.content }}  {%- endgeneration %}.{% endfor %}";
    assert_eq!(render(source, &[("user", "a"), ("user", "b"), ("stop", "c")]), "a.b.");
}

#[test]
fn a_template_can_refuse() {
    let source = "{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}";
    let error = template(source).render(&[Message::new("system", "x")], false).expect_err("a refusal");
    assert!(error.source().expect("a cause").to_string().contains("no system role"), "{error}");
}

#[test]
fn hostile_templates_end() {
    let forever = "{% for a in range(99999) %}{% for b in range(99999) %}{{ a }}{% endfor %}{% endfor %}";
    let recursive = "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}";
    let huge = "{{ messages | tojson(indent=1000000000) }}";
    for source in [forever, recursive, huge, "{{ 1 // 0 }}", "{{ messages[7].content.x }}"] {
        assert!(template(source).render(&[], false).is_err(), "{source}");
    }
    let deep = "(".repeat(100_000);
    for source in ["{% for %}", "{{ 'a", "{% generation", &format!("{{{{ {deep} }}}}")] {
        assert!(matches!(ChatTemplate::new(source, &BTreeMap::new()), Err(TextError::Template { .. })));
    }
}

#[test]
fn a_text_that_doubles_is_stopped() {
    let again = |start: &str, body: &str| {
        format!("{{% set ns = namespace(x={start}) %}}{{% for i in range(60) %}}{body}{{% endfor %}}")
    };
    for source in [
        again("'a'", "{% set ns.x = ns.x ~ ns.x %}"),
        again("'a'", "{%- set ns.x = ns.x + ns.x -%}"),
        again("'a'", "{% set ns.x, ns.y = ns.x ~ ns.x, 1 %}"),
        again("'a'", "{% set ns.x %}{{ ns.x }}{{ ns.x }}{% endset %}"),
        again("[1]", "{% set ns.x = ns.x + ns.x %}"),
        format!("{{% set x = 'a' %}}{}", "{% set x = x ~ x %}".repeat(60)),
        "{% macro f(x, n) %}{% if n %}{{ f(x ~ x, n - 1) }}{% else %}{{ x }}{% endif %}{% endmacro %}{{ f('a', 26) }}"
            .to_owned(),
        format!("{{% for i in range(99999) %}}{}{{% endfor %}}", "written again and again ".repeat(9)),
    ] {
        let error = format!("{:?}", template(&source).render(&[], false).expect_err(&source));
        assert!(error.contains("TemplateWork") || error.contains("16777216 bytes"), "{source}: {error}");
    }
}

#[test]
fn bounds_change_no_assignment() {
    for (source, expected) in [
        ("{% set a, b = 1, 'x' %}{{ a }}{{ b }}", "1x"),
        ("{% set (a, b) = (1, 2) %}{{ a }}{{ b }}", "12"),
        ("{% set a = missing %}{{ a is defined }}", "False"),
        ("{% set a = 'x' if false %}[{{ a }}]", "[]"),
        ("{% set a = '%}' %}{{ a }}", "%}"),
        ("{% set a = \"it's = \\\" \" %}{{ a }}", "it's = \" "),
        ("{% set a | replace('=', '-') %}x=y{% endset %}{{ a }}", "x-y"),
        ("{%- set a = [1, 2][::-1] -%} {{ a }}", "[2, 1]"),
        ("{% set n = namespace(a=1) %}{% set n.a = n.a + 1 %}{{ n.a == 2 }}", "True"),
        ("{% set settings = 1 == 1 %}{{ settings }}", "True"),
    ] {
        assert_eq!(template(source).render(&[], false).expect(source), expected, "{source}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    /// Loops in loops in loops, whatever is done in them: there is an end, and no more text than is allowed.
    #[test]
    fn templates_of_loops_end(
        loops in prop::collection::vec(
            prop::sample::select(vec!["range(3)", "range(99999)", "range(10 ** 12)", "messages", "x"]), 1..5),
        body in prop::sample::select(vec![
            "{{ x }}", "{% set x = x ~ x %}", "{% set ns.x = ns.x ~ x %}{{ ns.x }}", "{{ f(x) }}", "{{ [x, x] | tojson }}",
            "{{ x.upper() * 9 }}", "{% if ns.x in x %}{% break %}{% endif %}", "{{ x | replace('a', x) }}",
        ]),
    ) {
        let opened = loops.iter().map(|items| format!("{{% for i in {items} %}}")).collect::<Vec<_>>().concat();
        let source = format!(
            "{{% macro f(x) %}}{{{{ x }}}}{{{{ f(x) }}}}{{% endmacro %}}{{% set x = 'aa' %}}{{% set ns = namespace(x='b') %}}\
             {opened}{body}{}", "{% endfor %}".repeat(loops.len()),
        );
        if let Ok(text) = template(&source).render(&[Message::new("user", "a")], false) {
            prop_assert!(text.len() <= MAX_BYTES);
        }
    }
}

/// 30,000 of anything are refused before a parser can recurse over them; what real templates have passes.
#[test]
fn expressions_too_deep_are_refused_and_real_ones_are_not() {
    let n = 30_000;
    let repeat =
        |open: &str, middle: &str, close: &str| format!("{}{middle}{}", open.repeat(n), close.repeat(n));
    let deep = [
        format!("{{{{ 1{} }}}}", "+1".repeat(n)),
        format!("{{{{ 'a'{} }}}}", " ~ 'a'".repeat(n)),
        format!("{{{{ {} }}}}", repeat("not ", "1", "")),
        format!("{{{{ {} }}}}", repeat("- ", "1", "")),
        format!("{{{{ {} }}}}", repeat("(", "1", ")")),
        format!("{{{{ {} }}}}", repeat("[", "1", "]")),
        format!("{{{{ {} }}}}", repeat("{'a': ", "1", "}")),
        format!("{{{{ a{} }}}}", "[0]".repeat(n)),
        format!("{{{{ a{} }}}}", "()".repeat(n)),
        format!("{{{{ a{} }}}}", ".a".repeat(n)),
        format!("{{{{ a{} }}}}", " | upper".repeat(n)),
        format!("{{{{ a{} }}}}", " is string".repeat(n)),
        format!("{{{{ a{} }}}}", " and a".repeat(n)),
        format!("{{{{ a{} }}}}", " < a".repeat(n)),
        format!("{{{{ a{} }}}}", " if a else a".repeat(n)),
        format!("{{{{ a{} }}}}", " % a".repeat(n)),
        format!("{{{{ f({} }}}}", "a(".repeat(n)),
        format!("{{{{ f({}) }}}}", "[[1], 2] + ".repeat(n)),
        format!("{{% set x = 1{} %}}", " - 1".repeat(n)),
        format!("{{% if 1{} %}}{{% endif %}}", " or 1".repeat(n)),
        format!("{{% for a in b{} %}}{{% endfor %}}", " ~ b".repeat(n)),
        format!("{{% set {}a{} = 1 %}}", "(".repeat(n), ")".repeat(n)),
        repeat("{% if a %}", "", "{% endif %}"),
        repeat("{% for a in b %}", "", "{% endfor %}"),
        repeat("{% macro f() %}", "", "{% endmacro %}"),
        repeat("{% generation %}", "", "{% endgeneration %}"),
        repeat("{% set x %}", "", "{% endset %}"),
        repeat("{% filter upper %}", "", "{% endfilter %}"),
        format!("{{% if a %}}{}{{% endif %}}", "{% elif a %}".repeat(n)),
        format!("{{% if a %}}{}", "{% else %}{% if a %}".repeat(n)),
    ];
    for source in deep {
        let refused = ChatTemplate::new(&source, &BTreeMap::new());
        assert!(matches!(refused, Err(TextError::Template { .. })), "{}", &source[..source.len().min(60)]);
    }
    let long = (0..2000).map(|i| format!("'k{i}': 'v' ~ {i}")).collect::<Vec<_>>().join(", ");
    for source in [
        format!("{{% set a = {{{long}}} %}}{{{{ a.k1999 }}}}"),
        format!("{{{{ 'a'{} }}}}", " + 'b'".repeat(300)),
        "{% if messages %}{{ 1 }}{% endif %}".repeat(5000),
        format!("{}x{}", "{% if true %}".repeat(60), "{% endif %}".repeat(60)),
    ] {
        template(&source).render(&[], false).expect("a real template");
    }
}

/// Values that are nested or shared without end are stopped, as is text of any width.
#[test]
fn what_one_expression_makes_is_bounded_before_it_is_made() {
    let grow = |start: &str, step: &str, n: u32| {
        format!(
            "{{% set ns = namespace(x={start}) %}}{{% for i in range({n}) %}}{{% set ns.x = {step} %}}{{% endfor %}}{{{{ ns.x | length }}}}"
        )
    };
    let big = "{% set a = 'aaaaaaaaaaaaaaaa' * 65536 %}";
    for source in [
        grow("[]", "[ns.x]", 90_000),
        grow("{}", "{'a': ns.x}", 90_000),
        grow("[]", "(ns.x,)", 90_000),
        grow("[]", "dict(a=ns.x)", 90_000),
        grow("[1]", "[ns.x, ns.x]", 90),
        grow("[1]", "ns.x + ns.x", 90),
        grow("[1]", "ns.x * 2", 90),
        grow("'a'", "ns.x ~ ns.x", 90),
        grow("'a'", "ns.x * 2", 90),
        grow("'a'", "ns.x.replace('a', 'aaaa')", 90),
        grow("'a'", "ns.x | replace('a', 'aaaa')", 90),
        grow("'a'", "'%s%s' % (ns.x, ns.x)", 90),
        grow("'a'", "'{0}{0}'.format(ns.x)", 90),
        grow("'a'", "[ns.x, ns.x] | join(ns.x)", 90),
        grow("'a'", "ns.x.join([ns.x, ns.x])", 90),
        grow("'\\\\'", "[ns.x] | string", 90),
        grow("'&'", "(ns.x | e) ~ ns.x", 90),
        grow("'\"'", "(ns.x | tojson) ~ ns.x", 90),
        "{{ 'a' * 10 ** 12 }}".to_owned(),
        "{{ 'a' * 1000000000 }}".to_owned(),
        "{{ [1] * 10 ** 12 }}".to_owned(),
        "{{ (1,) * 1000000000 }}".to_owned(),
        "{{ ([1] * 1000000000) | list }}".to_owned(),
        "{{ range(1000000000) | list }}".to_owned(),
        "{{ 'a'.center(1000000000) }}".to_owned(),
        "{{ 'a'.ljust(1000000000000) }}".to_owned(),
        "{{ 'a'.zfill(1000000000) }}".to_owned(),
        "{{ '\\t'.expandtabs(1000000000) }}".to_owned(),
        "{{ 'a' | center(1000000000) }}".to_owned(),
        "{{ 'a\\nb' | indent(1000000000) }}".to_owned(),
        "{{ '%1000000000d' % 1 }}".to_owned(),
        "{{ '%.1000000000f' % 1.5 }}".to_owned(),
        "{{ '%*d' % (1000000000, 1) }}".to_owned(),
        "{{ '%99999999999999999999d' % 1 }}".to_owned(),
        "{{ '%1000000000s' | format('a') }}".to_owned(),
        "{{ '{:1000000000}'.format('a') }}".to_owned(),
        "{{ '{:.1000000000f}'.format(1.5) }}".to_owned(),
        "{{ '{:>99999999999999999999}'.format('a') }}".to_owned(),
        "{{ ('{:9999999}' * 100).format(1) }}".to_owned(),
        format!("{big}{{{{ a.replace('a', a) }}}}"),
        format!("{big}{{{{ a.replace('', a) }}}}"),
        format!("{big}{{{{ a | replace('a', a) }}}}"),
        format!("{big}{{{{ a.join(a) }}}}"),
        format!("{big}{{{{ a | join(a) }}}}"),
        format!("{big}{{{{ a.replace('a', '\\n') | indent(a) }}}}"),
        format!("{big}{{{{ [a, a, a] | tojson(indent=16) }}}}{{{{ [[[[a]]]] | tojson }}}}").repeat(9),
        format!("{big}{{% for i in range(99999) %}}{{% if a.find('b') > 0 %}}{{% endif %}}{{% endfor %}}"),
        format!("{big}{{% for i in range(99999) %}}{{% if 'b' in a %}}{{% endif %}}{{% endfor %}}"),
        format!("{big}{{% for i in range(99999) %}}{{% if a.upper() == a %}}{{% endif %}}{{% endfor %}}"),
        format!("{big}{{% for i in range(99999) %}}{{% set b = a | trim %}}{{% endfor %}}"),
    ] {
        let rendered = ChatTemplate::new(&source, &BTreeMap::new()).and_then(|t| t.render(&[], false));
        let error = rendered.expect_err(&source);
        assert!(
            matches!(
                error,
                TextError::TemplateWork { .. } | TextError::Render { .. } | TextError::Template { .. }
            ),
            "{source}: {error}"
        );
    }
    let kept = "{% set ns = namespace(x=[]) %}{% for i in range(500) %}{% set ns.x = ns.x + [i] %}{% endfor %}\
        {{ ns.x | length }}{{ ns.x[-1] }}";
    assert_eq!(template(kept).render(&[], false).expect("renders"), "500499");
}
