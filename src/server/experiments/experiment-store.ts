/**
 * What survives of experiments: their templates, the runs that have ended, and results by the keys of their jobs, so that an
 * equal job is not run again whichever experiment asks. A SQLite database of its own in the data folder. A run is written with its
 * result, in one transaction, and only once: whatever was not written when the server died is run again.
 *
 * Results can be made again, so a commit does not wait for the disk (synchronous = NORMAL): a crash of the process loses nothing,
 * a crash of the machine the last moments.
 */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync, type StatementSync } from 'node:sqlite';
import { StoreError } from '../store.ts';

export type ExperimentState = 'RUNNING' | 'SUCCEEDED' | 'FAILED' | 'CANCELLED';

export interface StoredExperiment {
  /** Never used twice. */
  readonly number: number;
  /** Wall time, ISO 8601. */
  readonly created: string;
  readonly ended: string | null;
  readonly state: ExperimentState;
  readonly reason: string | null;
  readonly engine: string;
  /** Template, cost profiles and numbers of combinations that are left out, as JSON texts. */
  readonly template: string;
  readonly profiles: string;
  readonly skipped: string;
}

export interface StoredRun {
  readonly run: number;
  /** Index in RUN_STATES. */
  readonly state: number;
  readonly reused: boolean;
  readonly key: string;
  readonly digest: string | null;
  readonly wallSeconds: number;
  /** As JSON text. */
  readonly problem: string | null;
  /** By the experiment's list of metrics; NaN where it has none. */
  readonly metrics: Float64Array;
}

/** A result as it is kept: its digest and its text. */
export interface StoredResult {
  readonly digest: string;
  readonly result: string;
  readonly wallSeconds: number;
}

const TABLES = [
  'CREATE TABLE IF NOT EXISTS experiments (number INTEGER PRIMARY KEY AUTOINCREMENT, created TEXT NOT NULL, ended TEXT, ' +
    'state TEXT NOT NULL, reason TEXT, engine TEXT NOT NULL, template TEXT NOT NULL, profiles TEXT NOT NULL, ' +
    "skipped TEXT NOT NULL, metrics TEXT NOT NULL DEFAULT '[]', states BLOB) STRICT",
  'CREATE TABLE IF NOT EXISTS runs (experiment INTEGER NOT NULL, run INTEGER NOT NULL, state INTEGER NOT NULL, ' +
    'reused INTEGER NOT NULL, key TEXT NOT NULL, digest TEXT, wall REAL NOT NULL, problem TEXT, metrics BLOB NOT NULL, ' +
    'PRIMARY KEY (experiment, run)) STRICT, WITHOUT ROWID',
  'CREATE INDEX IF NOT EXISTS runs_by_key ON runs (key)',
  'CREATE TABLE IF NOT EXISTS results (key TEXT PRIMARY KEY, digest TEXT NOT NULL, wall REAL NOT NULL, result TEXT NOT NULL) STRICT',
];

export class ExperimentStore {
  private readonly db: DatabaseSync;
  private readonly statements = new Map<string, StatementSync>();

  /** Opens or makes the database in `folder`; null keeps it in memory. */
  constructor(folder: string | null) {
    try {
      if (folder !== null) mkdirSync(folder, { recursive: true, mode: 0o700 });
      this.db = new DatabaseSync(folder === null ? ':memory:' : join(folder, 'experiments.sqlite'));
      this.db.exec('PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;');
      this.db.exec(`BEGIN EXCLUSIVE; ${TABLES.join('; ')}; COMMIT;`);
    } catch (error) {
      const cause = error instanceof Error ? error.message : String(error);
      throw new StoreError(`experiments.sqlite in RINGSIDE_DATA_DIR ${folder ?? ''} cannot be used: ${cause}`);
    }
  }

  /** It is being removed: should that not come to its end, it goes on at the next start. */
  condemn(number: number): void {
    this.sql("UPDATE experiments SET state = 'DELETED' WHERE number = ?").run(number);
  }
  condemned(): number[] {
    const rows = this.sql("SELECT number FROM experiments WHERE state = 'DELETED'").all();
    return rows.map((row) => Number(row['number']));
  }
  all(): StoredExperiment[] {
    const columns = 'number, created, ended, state, reason, engine, template, profiles, skipped';
    return this.sql(
      `SELECT ${columns} FROM experiments WHERE state <> 'DELETED' ORDER BY number`,
    ).all() as unknown as StoredExperiment[];
  }
  add(experiment: Omit<StoredExperiment, 'number' | 'ended' | 'reason'>): number {
    const { created, state, engine, template, profiles, skipped } = experiment;
    const insert =
      'INSERT INTO experiments (created, state, engine, template, profiles, skipped) VALUES (?, ?, ?, ?, ?, ?)';
    return Number(this.sql(insert).run(created, state, engine, template, profiles, skipped).lastInsertRowid);
  }
  /** How it ended, and the state of every run. */
  end(number: number, state: ExperimentState, reason: string | null, ended: string, states: Uint8Array): void {
    const update = 'UPDATE experiments SET state = ?, reason = ?, ended = ?, states = ? WHERE number = ?';
    this.sql(update).run(state, reason, ended, states, number);
  }
  /** Of an experiment that has ended, by run number; the item at 0 is no run. */
  states(number: number): Uint8Array | null {
    const row = this.sql('SELECT states FROM experiments WHERE number = ?').get(number);
    return row?.['states'] instanceof Uint8Array ? row['states'] : null;
  }
  metrics(number: number): string[] {
    const row = this.sql('SELECT metrics FROM experiments WHERE number = ?').get(number);
    return JSON.parse(String(row?.['metrics'] ?? '[]')) as string[];
  }
  putMetrics(number: number, names: readonly string[]): void {
    this.sql('UPDATE experiments SET metrics = ? WHERE number = ?').run(JSON.stringify(names), number);
  }

  /** Several writes as one; all of them or none. */
  together(write: () => void): void {
    this.db.exec('BEGIN IMMEDIATE');
    try {
      write();
      this.db.exec('COMMIT');
    } catch (error) {
      this.db.exec('ROLLBACK');
      throw error;
    }
  }
  /** A run that is there already stays as it is. */
  putRun(experiment: number, run: StoredRun): void {
    const { metrics } = run;
    this.sql(
      'INSERT OR IGNORE INTO runs (experiment, run, state, reused, key, digest, wall, problem, metrics) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)',
    ).run(
      experiment,
      run.run,
      run.state,
      run.reused ? 1 : 0,
      run.key,
      run.digest,
      run.wallSeconds,
      run.problem,
      new Uint8Array(metrics.buffer, metrics.byteOffset, metrics.byteLength),
    );
  }
  /** Runs in ascending order from `first` on. */
  runs(experiment: number, first: number, most: number): StoredRun[] {
    const select =
      'SELECT run, state, reused, key, digest, wall, problem, metrics FROM runs WHERE experiment = ? AND run >= ? ORDER BY run LIMIT ?';
    return this.sql(select).all(experiment, first, most).map(runOf);
  }
  run(experiment: number, run: number): StoredRun | null {
    const [found] = this.runs(experiment, run, 1);
    return found?.run === run ? found : null;
  }

  putResult(key: string, { digest, result, wallSeconds }: StoredResult): void {
    this.sql('INSERT OR IGNORE INTO results (key, digest, wall, result) VALUES (?, ?, ?, ?)').run(
      key,
      digest,
      wallSeconds,
      result,
    );
  }
  result(key: string): StoredResult | null {
    const row = this.sql('SELECT digest, wall, result FROM results WHERE key = ?').get(key);
    if (row === undefined) return null;
    return { digest: String(row['digest']), result: String(row['result']), wallSeconds: Number(row['wall']) };
  }

  /** Removes some of an experiment's runs, with results that nobody else has; at last the experiment. True: there are more. */
  deleteSome(experiment: number, most: number): boolean {
    let more = true;
    this.together(() => {
      const keys = this.sql('SELECT run, key FROM runs WHERE experiment = ? LIMIT ?').all(experiment, most);
      for (const row of keys) {
        this.sql('DELETE FROM runs WHERE experiment = ? AND run = ?').run(experiment, Number(row['run']));
        const key = String(row['key']);
        if (this.sql('SELECT 1 FROM runs WHERE key = ? LIMIT 1').get(key) === undefined)
          this.sql('DELETE FROM results WHERE key = ?').run(key);
      }
      more = keys.length === most;
      if (!more) this.sql('DELETE FROM experiments WHERE number = ?').run(experiment);
    });
    return more;
  }

  close(): void {
    this.db.close();
  }

  private sql(text: string): StatementSync {
    let statement = this.statements.get(text);
    if (statement === undefined) {
      statement = this.db.prepare(text);
      this.statements.set(text, statement);
    }
    return statement;
  }
}

type Row = Readonly<Record<string, unknown>>;
function runOf(row: Row): StoredRun {
  const bytes = row['metrics'] as Uint8Array;
  return {
    run: Number(row['run']),
    state: Number(row['state']),
    reused: row['reused'] === 1,
    key: String(row['key']),
    digest: row['digest'] === null ? null : String(row['digest']),
    wallSeconds: Number(row['wall']),
    problem: row['problem'] === null ? null : String(row['problem']),
    // The bytes of a blob may begin anywhere.
    metrics: new Float64Array(bytes.slice().buffer),
  };
}
