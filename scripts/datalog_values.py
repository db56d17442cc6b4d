#!/usr/bin/env python3
"""Random Datalog programs with what clingo says follows from them: tests/data/datalog.txt.

The test `relations` of tl-lang reads them. clingo (`pip install clingo`) is needed only here.
Usage: scripts/datalog_values.py > tests/data/datalog.txt

Each program is written twice, for TL and for clingo. It has entities with named and with numbered elements, relations of no to three
places, facts, rules with recursion, mutual recursion, negation of lower strata, comparisons, constants and `_`. The file has the TL
programs one after the other, behind `// program N`, with a query of each relation and clingo's answer behind `//>`.
"""
import json
import random

import clingo

PROGRAMS = 300
NAMES = ["ann", "bob", "cal", "dan", "eve"]
COLORS = ["red", "green", "blue"]


class Entity:
    def __init__(self, name, elements):
        self.name, self.elements, self.is_numbered = name, elements, isinstance(elements[0], int)

    def declaration(self):
        if self.is_numbered:
            return f"entity {self.name} = {len(self.elements)}"
        return f"entity {self.name} = {{{', '.join(self.elements)}}}"


class Relation:
    def __init__(self, name, sets, level):
        self.name, self.sets, self.level = name, sets, level


def atom(name, terms, to_clingo):
    if not to_clingo:
        return f"{name}({', '.join(terms)})"
    # clingo's variables begin with a capital letter, its relations and elements with a small one.
    terms = [term.upper() if len(term) == 1 and term.isalpha() else term for term in terms]
    return name.lower() + (f"({','.join(terms)})" if terms else "")


def clingo_term(term):
    return term.upper() if len(term) == 1 and term.isalpha() else term


class Program:
    def __init__(self, rng):
        self.rng = rng
        people = Entity("Person", NAMES[: rng.randint(2, 5)])
        nodes = Entity("Node", list(range(rng.randint(2, 7))))
        colors = Entity("Color", COLORS[: rng.randint(2, 3)])
        self.entities = rng.sample([people, nodes, colors], rng.randint(1, 3))
        self.facts, self.rules = [], []
        self.base = [self.relation(f"E{i}", 0) for i in range(rng.randint(1, 3))]
        n_levels = rng.randint(1, 3)
        self.derived = [
            self.relation(f"R{level}{i}", level)
            for level in range(1, n_levels + 1)
            for i in range(rng.randint(1, 3))
        ]
        for relation in self.base:
            self.add_facts(relation)
        for relation in self.derived:
            if rng.random() < 0.15:
                self.add_facts(relation)
            for _ in range(rng.randint(1, 3)):
                self.add_rule(relation)

    def relation(self, name, level):
        n_places = self.rng.choices([0, 1, 2, 3], [1, 5, 9, 3])[0]
        return Relation(name, [self.rng.choice(self.entities) for _ in range(n_places)], level)

    def add_facts(self, relation):
        for _ in range(self.rng.randint(1, 8) if relation.sets else self.rng.randint(0, 1)):
            fact = relation.name, [str(self.rng.choice(entity.elements)) for entity in relation.sets]
            if fact not in self.facts:
                self.facts.append(fact)

    def add_rule(self, head):
        rng, variables, body = self.rng, {}, []

        def term(entity, may_be_new):
            known = [name for name, own in variables.items() if own is entity]
            choice = rng.random()
            if choice < 0.12:
                return str(rng.choice(entity.elements))
            if choice < 0.2 and may_be_new is not None:
                return "_"
            if known and (choice < 0.75 or not may_be_new):
                return rng.choice(known)
            if may_be_new and len(variables) < 6:
                name = "abcxyz"[len(variables)]
                variables[name] = entity
                return name
            return str(rng.choice(entity.elements))

        readable = [relation for relation in self.base + self.derived if relation.level <= head.level]
        lower = [relation for relation in readable if relation.level < head.level]
        for _ in range(rng.randint(1, 3)):
            relation = rng.choice(readable)
            body.append((False, relation.name, [term(entity, True) for entity in relation.sets]))
        if rng.random() < 0.2:
            entity = rng.choice(self.entities)
            body.append((False, entity.name, [term(entity, True)]))
        while rng.random() < 0.3:
            relation = rng.choice(lower)
            body.append((True, relation.name, [term(entity, False) for entity in relation.sets]))
        while variables and rng.random() < 0.25:
            left = rng.choice(list(variables))
            entity = variables[left]
            operators = ["==", "!=", "!=", "<", "<=", ">", ">="] if entity.is_numbered else ["==", "!=", "!="]
            body.append((None, rng.choice(operators), [left, term(entity, None)]))
        terms = [term(entity, None) for entity in head.sets]
        rng.shuffle(body)
        # In TL a body may not begin with anything, but a comparison of what follows reads badly.
        body.sort(key=lambda literal: literal[0] is None)
        self.rules.append(((head.name, terms), body))

    def tl(self):
        lines = [entity.declaration() for entity in self.entities]
        for relation in self.base + self.derived:
            lines.append(f"relation {relation.name}({', '.join(entity.name for entity in relation.sets)})")
        lines += [f"fact {atom(*fact, False)}" for fact in self.facts]
        for head, body in self.rules:
            shown = [
                f"{terms[0]} {name} {terms[1]}" if kind is None else ("not " if kind else "") + atom(name, terms, False)
                for kind, name, terms in body
            ]
            lines.append(f"rule {atom(*head, False)} <- {', '.join(shown)}")
        return lines

    def clingo(self):
        lines = [atom(entity.name, [str(element)], True) + "." for entity in self.entities for element in entity.elements]
        lines += [atom(*fact, True) + "." for fact in self.facts]
        for head, body in self.rules:
            shown = [
                f"{clingo_term(terms[0])} {name} {clingo_term(terms[1])}"
                if kind is None
                else ("not " if kind else "") + atom(name, terms, True)
                for kind, name, terms in body
            ]
            lines.append(f"{atom(*head, True)} :- {', '.join(shown)}.")
        return "\n".join(lines)

    def answers(self):
        control = clingo.Control(["--warn=none"])
        control.add("base", [], self.clingo())
        control.ground([("base", [])])
        models = []
        control.solve(on_model=lambda model: models.append(model.symbols(atoms=True)))
        assert len(models) == 1, "a stratified program has one model"
        found = {relation.name: [] for relation in self.base + self.derived}
        for symbol in models[0]:
            if symbol.name.upper() in found:
                value = lambda term: term.number if term.type == clingo.SymbolType.Number else term.name
                found[symbol.name.upper()].append([value(term) for term in symbol.arguments])
        for relation in self.base + self.derived:
            key = lambda row, sets=relation.sets: [entity.elements.index(x) for entity, x in zip(sets, row)]
            rows = sorted(found[relation.name], key=key)
            if not relation.sets:
                yield relation, "true" if rows else "false"
            else:
                yield relation, json.dumps([row[0] for row in rows] if len(relation.sets) == 1 else rows)


def main():
    print("// Written by scripts/datalog_values.py with clingo", clingo.__version__)
    number = seed = 0
    while number < PROGRAMS:
        seed += 1
        program = Program(random.Random(seed))
        answers = list(program.answers())
        derived = [answer for relation, answer in answers if relation.level]
        # Programs in which nothing follows test little.
        if all(answer in ("[]", "false") for answer in derived):
            continue
        number += 1
        print(f"// program {number}")
        print("\n".join(program.tl()))
        for relation, answer in answers:
            if relation.level:
                print(f"print(query {relation.name}({', '.join('pqr'[: len(relation.sets)])}))")
                print(f"//> {answer}")


main()
