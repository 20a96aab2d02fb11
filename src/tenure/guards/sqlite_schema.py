"""The SQL that makes a SQLite database refuse stale terms by itself: tables and triggers.

How a token is bound to ONE transaction. SQLite has no state per transaction that a trigger could read, but it has one
constraint that is checked at COMMIT: a deferred foreign key. So a token is presented by a row in `tenure_presented`
whose foreign key points at `tenure_never`, a table that can't hold a row. While the row is there, nothing can be
committed; who presents must take it back before the COMMIT, and a crash or a rollback takes it back too. Hence a
presented row that anyone can see was presented in that very transaction, under the database's write lock, and the
guarded tables' triggers need to look only for it.

That rests on `PRAGMA foreign_keys`, which each connection chooses (it can't be changed inside a transaction). The
trigger finds out by itself whether it is on: it lets a row of `tenure_probe` be deleted by cascade, and refuses the
token if the row survives. (The table-valued pragma would be shorter, but it fails where `trusted_schema` is off.)

RAISE takes a literal only, so the messages begin with `tenure: <code>:` and Python reads the mark for the figures.
"""

from typing import Final

from tenure.base.ids import ElectionName

mark_max: Final = 2**52
"""No cluster comes near it before the year 4400 (P2.1)."""

_TABLES: Final = f"""
CREATE TABLE IF NOT EXISTS tenure_mark (
  election TEXT NOT NULL PRIMARY KEY,
  term INTEGER NOT NULL CHECK (typeof(term) = 'integer' AND term BETWEEN 0 AND {mark_max}),
  owner TEXT NOT NULL CHECK (typeof(owner) = 'text')
);
CREATE TABLE IF NOT EXISTS tenure_never (election TEXT PRIMARY KEY CHECK (0));
CREATE TABLE IF NOT EXISTS tenure_probe (
  id INTEGER PRIMARY KEY,
  parent INTEGER REFERENCES tenure_probe (id) ON DELETE CASCADE
);
CREATE TABLE IF NOT EXISTS tenure_presented (
  election TEXT NOT NULL PRIMARY KEY REFERENCES tenure_never (election) DEFERRABLE INITIALLY DEFERRED,
  term INTEGER NOT NULL,
  owner TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS tenure_operation (
  number INTEGER PRIMARY KEY AUTOINCREMENT,
  election TEXT NOT NULL,
  id TEXT NOT NULL,
  term INTEGER NOT NULL,
  content TEXT NOT NULL,
  result TEXT NOT NULL,
  UNIQUE (election, id)
);
"""

# ruff: noqa: S608 - SQL is built here from constants and from checked election names only
_PRESENTING: Final = f"""
CREATE TRIGGER IF NOT EXISTS tenure_present_check BEFORE INSERT ON tenure_presented BEGIN
  SELECT RAISE(ABORT, 'tenure: unknown_mark: no guard is installed for this election')
    WHERE NOT EXISTS (SELECT 1 FROM tenure_mark WHERE election = NEW.election);
  SELECT RAISE(ABORT, 'tenure: invalid: a token has an integer term from 1 and an owner of 32 hex digits')
    WHERE typeof(NEW.term) <> 'integer' OR NEW.term < 1
      OR typeof(NEW.owner) <> 'text' OR length(NEW.owner) <> 32 OR NEW.owner GLOB '*[^0-9a-f]*';
  SELECT RAISE(ABORT, 'tenure: term_too_high: terms above 2^52 are refused') WHERE NEW.term > {mark_max};
  SELECT RAISE(ABORT, 'tenure: stale_term: a newer leader has written here')
    WHERE EXISTS (SELECT 1 FROM tenure_mark WHERE election = NEW.election AND term > NEW.term);
  SELECT RAISE(ABORT, 'tenure: forked: another owner has written here under this very term')
    WHERE EXISTS (SELECT 1 FROM tenure_mark WHERE election = NEW.election AND term = NEW.term AND owner <> NEW.owner);
  INSERT INTO tenure_probe (id, parent) VALUES (1, NULL), (2, 1);
  DELETE FROM tenure_probe WHERE id = 1;
  SELECT RAISE(ABORT, 'tenure: foreign_keys_off: PRAGMA foreign_keys = ON is needed to present a token')
    WHERE EXISTS (SELECT 1 FROM tenure_probe);
END;
CREATE TRIGGER IF NOT EXISTS tenure_present_mark AFTER INSERT ON tenure_presented BEGIN
  UPDATE tenure_mark SET term = NEW.term, owner = NEW.owner WHERE election = NEW.election;
END;
CREATE TRIGGER IF NOT EXISTS tenure_present_fixed BEFORE UPDATE ON tenure_presented BEGIN
  SELECT RAISE(ABORT, 'tenure: fixed: a presented token is taken back by DELETE, never changed');
END;
"""

_MARKS: Final = """
CREATE TRIGGER IF NOT EXISTS tenure_mark_begins BEFORE INSERT ON tenure_mark BEGIN
  SELECT RAISE(ABORT, 'tenure: mark: a mark begins at term 0, once')
    WHERE NEW.term <> 0 OR NEW.owner <> '' OR EXISTS (SELECT 1 FROM tenure_mark WHERE election = NEW.election);
END;
CREATE TRIGGER IF NOT EXISTS tenure_mark_rises BEFORE UPDATE ON tenure_mark BEGIN
  SELECT RAISE(ABORT, 'tenure: mark: a mark follows the presented token and never goes back')
    WHERE NEW.election <> OLD.election OR NEW.term < OLD.term
      OR (NEW.term = OLD.term AND NEW.owner <> OLD.owner)
      OR NOT EXISTS (SELECT 1 FROM tenure_presented AS p
                     WHERE p.election = NEW.election AND p.term = NEW.term AND p.owner = NEW.owner);
END;
CREATE TRIGGER IF NOT EXISTS tenure_mark_stays BEFORE DELETE ON tenure_mark BEGIN
  SELECT RAISE(ABORT, 'tenure: mark: a mark is never deleted');
END;
"""

_REFUSAL: Final = "tenure: no_token: no fencing token was accepted in this transaction"


def _presented(election: str) -> str:
    """SQL that is true under an accepted token. The mark is compared too: a second lock on the same door."""
    return (
        "EXISTS (SELECT 1 FROM tenure_presented AS p JOIN tenure_mark AS m "
        f"ON m.election = p.election AND m.term = p.term AND m.owner = p.owner WHERE p.election = {election})"
    )


_OPERATIONS: Final = "\n".join(
    f"CREATE TRIGGER IF NOT EXISTS tenure_operation_{verb.lower()} BEFORE {verb} ON tenure_operation\n"
    f"WHEN NOT {_presented(row)} BEGIN SELECT RAISE(ABORT, '{_REFUSAL}'); END;"
    for verb, row in (("INSERT", "NEW.election"), ("DELETE", "OLD.election"))
) + (
    "\nCREATE TRIGGER IF NOT EXISTS tenure_operation_fixed BEFORE UPDATE ON tenure_operation BEGIN"
    "\n  SELECT RAISE(ABORT, 'tenure: fixed: what was applied is not rewritten');\nEND;\n"
)

_VERBS: Final = ("insert", "update", "delete")


def statements() -> tuple[str, ...]:
    """What every guarded database needs, one statement each; harmless when repeated."""
    script = _TABLES + _PRESENTING + _MARKS + _OPERATIONS
    return tuple("CREATE " + part.strip().rstrip(";") for part in script.split("CREATE ") if part.strip())


def quoted(name: str) -> str:
    """An identifier in double quotes."""
    return '"' + name.replace('"', '""') + '"'


def guarding(table: str, election: ElectionName) -> dict[str, str]:
    """The triggers of one guarded table: name → statement. Election names hold no quote (API.md)."""
    assert "'" not in election
    condition = _presented(f"'{election}'")
    return {
        f"tenure_guard_{verb}_{table}": (
            f"CREATE TRIGGER {quoted(f'tenure_guard_{verb}_{table}')} BEFORE {verb.upper()} ON {quoted(table)}\n"
            f"WHEN NOT {condition}\nBEGIN SELECT RAISE(ABORT, '{_REFUSAL}'); END"
        )
        for verb in _VERBS
    }
