"""What OpenAI's Python client makes of a server's answers: whole, streamed, with tools, log-probabilities and errors.

    pip install openai
    koan serve --model MODEL_DIR
    python openai_client.py [http://127.0.0.1:8000/v1]

Prints a line for each thing that was tried, and ends with exit code 1 if one is not as the client's types say.
"""

import sys

import openai


def main():
    base_url = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8000/v1"
    client = openai.OpenAI(base_url=base_url, api_key="none", max_retries=0)
    model = client.models.list().data[0].id
    ask = {"model": model, "messages": [{"role": "user", "content": "What is the capital of Japan?"}]}
    chat = client.chat.completions.create

    whole = chat(**ask, seed=7, max_tokens=32, n=2, logprobs=True, top_logprobs=3)
    check("whole", len(whole.choices) == 2 and whole.usage.completion_tokens > 0, whole.choices[0].message.content)
    entries = whole.choices[0].logprobs.content
    joined = b"".join(bytes(entry.bytes) for entry in entries).decode(errors="replace")
    check("log-probabilities", joined == whole.choices[0].message.content and len(entries[0].top_logprobs) == 3, len(entries))

    text, usage = "", None
    for chunk in chat(**ask, seed=7, max_tokens=32, stream=True, stream_options={"include_usage": True}):
        usage = chunk.usage or usage
        text += "".join(choice.delta.content or "" for choice in chunk.choices)
    check("a stream says the same", text == whole.choices[0].message.content, usage)

    again = chat(**ask, seed=7, max_tokens=32)
    check("same seed, same answer", again.choices[0].message.content == text, again.system_fingerprint)

    completion = client.completions.create(model=model, prompt=["7 times 8 is", "Once upon"], max_tokens=8, logprobs=2, echo=True, seed=1)
    listed = completion.choices[1].logprobs
    check("completions", listed.token_logprobs[0] is None and len(listed.tokens) == len(listed.text_offset), completion.choices[0].text)

    stopped = chat(**ask, seed=7, max_tokens=32, stop=[text[4:6]]) if len(text) > 6 else whole
    check("a stop string", text[4:6] not in stopped.choices[0].message.content, stopped.choices[0].finish_reason)

    for kind, wrong in [
        (openai.NotFoundError, {"model": "no-such-model"}),
        (openai.BadRequestError, {"temperature": 3}),
        (openai.BadRequestError, {"max_tokens": 10**6}),
        (openai.BadRequestError, {"presence_penalty": 1}),
    ]:
        try:
            chat(**{**ask, **wrong})
            check(kind.__name__, False, wrong)
        except kind as error:
            check(kind.__name__, True, error.body["message"])


def check(what, holds, shown):
    print(f"{'ok   ' if holds else 'WRONG'} {what}: {shown!r}")
    if not holds:
        sys.exit(1)


if __name__ == "__main__":
    main()
