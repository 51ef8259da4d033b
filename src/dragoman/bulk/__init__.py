"""Transcribing archives: many recordings by many processes, each recording exactly once whatever dies meanwhile.

The items of a manifest are cut into parts once (`items`, `plan`). A worker transcribes a part (`work`), noting what is
done (`journal`), and writes it as one file, whole, under a name that only depends on the plan (`store`): that is the
whole protocol, so that runs on one machine (`local`), under Ray (`onray`) and as independent tasks of a scheduler mix,
stop and go on freely. Not here: the command (`dragoman.cli.bulk`).
"""
