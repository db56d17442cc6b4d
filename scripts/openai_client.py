#!/usr/bin/env python3
"""Uses a running `tl serve` through OpenAI's own client, and checks what comes back.

    scripts/openai_client.py URL [--key KEY] [--chat]

URL is the server's address, such as http://127.0.0.1:8080. --chat also tries conversations, for a model with a chat template.

Exit status: 0 all is right; 1 something is wrong; 2 wrong usage; 77 the package `openai` is missing. Python 3.9.
"""
import argparse
import json
import sys

try:
    import openai
except ImportError:
    print("the package `openai` is missing: python3 -m venv VENV && VENV/bin/pip install openai", file=sys.stderr)
    sys.exit(77)

SCHEMA = {
    "type": "object",
    "properties": {"safe": {"type": "boolean"}},
    "required": ["safe"],
    "additionalProperties": False,
}


def check(what, is_right, found):
    print(f"{'right' if is_right else 'WRONG'}: {what}")
    if not is_right:
        sys.exit(f"{what}: {found!r}")


def refused(what, error, run):
    """Checks that `run` fails with this error of the client."""
    try:
        found = run()
    except error as raised:
        check(what, bool(raised.message), raised)
    else:
        check(what, False, found)


def texts(client, model):
    asked = dict(model=model, prompt="A trait object", max_tokens=8, temperature=0)
    whole = client.completions.create(**asked, logprobs=2)
    check("a completion", whole.choices[0].finish_reason in ("stop", "length"), whole)
    check("its tokens are counted", whole.usage.completion_tokens == len(whole.choices[0].logprobs.tokens), whole.usage)
    pieces = list(client.completions.create(**asked, stream=True))
    streamed = "".join(piece.choices[0].text for piece in pieces if piece.choices)
    check("streamed, it is the same", streamed == whole.choices[0].text, streamed)
    seeded = [client.completions.create(**{**asked, "temperature": 1, "seed": 7}).choices[0].text for _ in range(2)]
    check("a seed repeats", seeded[0] == seeded[1], seeded)


def conversations(client, model):
    asked = dict(model=model, messages=[{"role": "user", "content": "A trait object"}], max_tokens=8, temperature=0)
    whole = client.chat.completions.create(**asked, logprobs=True, top_logprobs=2)
    text = whole.choices[0].message.content
    check("a conversation", whole.choices[0].message.role == "assistant", whole)
    check("log-probabilities", len(whole.choices[0].logprobs.content[0].top_logprobs) == 2, whole.choices[0].logprobs)
    pieces = list(client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True}))
    streamed = "".join(piece.choices[0].delta.content or "" for piece in pieces if piece.choices)
    check("streamed, it is the same", streamed == text, (streamed, text))
    check("a stream ends with its usage", pieces[-1].usage == whole.usage, pieces[-1])
    form = {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": SCHEMA}}
    answer = client.chat.completions.create(**{**asked, "max_tokens": 100}, response_format=form)
    check("an answer by a schema", list(json.loads(answer.choices[0].message.content)) == ["safe"], answer)
    refused("n beyond the bound", openai.BadRequestError, lambda: client.chat.completions.create(**asked, n=1000))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("--key", default="none")
    parser.add_argument("--chat", action="store_true")
    arguments = parser.parse_args()
    client = openai.OpenAI(base_url=arguments.url + "/v1", api_key=arguments.key, max_retries=0, timeout=120)
    models = [model.id for model in client.models.list()]
    check("one model", len(models) == 1, models)
    texts(client, models[0])
    if arguments.chat:
        conversations(client, models[0])
    refused("another model", openai.NotFoundError, lambda: client.completions.create(model="none", prompt="a"))
    logit_bias = {"1": 1}
    refused(
        "what is not supported",
        openai.BadRequestError,
        lambda: client.completions.create(model=models[0], prompt="a", logit_bias=logit_bias),
    )
    if arguments.key != "none":
        stranger = openai.OpenAI(base_url=arguments.url + "/v1", api_key="wrong", max_retries=0)
        refused("a wrong key", openai.AuthenticationError, lambda: stranger.models.list())


main()
