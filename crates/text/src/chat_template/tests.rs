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
    assert_eq!(rewrite_tags("a {% generation"), "a {% generation");
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
        assert!(error.contains("16777216 bytes"), "{source}: {error}");
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
    #![proptest_config(ProptestConfig::with_cases(24))]

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
