/**
 * What survives a restart: the topology documents, the hosts' databases that clients have changed, users' cost profiles, and what
 * is known about captures on disk, in a SQLite database in the data folder. One server owns the database at a time; a second one on the same folder is
 * refused at start.
 */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import type { SavedDatabases } from '../lab/ovs/start.ts';

export interface StoredTopology {
  readonly name: string;
  /** The document as JSON text. */
  readonly document: string;
  /** Grows with every change of any topology and is never used twice: what the ETag is made of. */
  readonly revision: number;
}

export interface StoredCapture {
  /** Never used twice. */
  readonly number: number;
  readonly topology: string;
  readonly id: string;
  /** Wall time, ISO 8601. */
  readonly created: string;
  readonly ended: string | null;
  /** What was asked for, and how it ended (null: it has not), as JSON text. */
  readonly spec: string;
  readonly progress: string | null;
}

/** The data folder cannot be used; the message is for the person who starts the server. */
export class StoreError extends Error {}

export class TopologyStore {
  private readonly db: DatabaseSync;

  /** Opens or makes the database in `folder`; null keeps it in memory. */
  constructor(folder: string | null) {
    try {
      if (folder !== null) mkdirSync(folder, { recursive: true, mode: 0o700 });
      this.db = new DatabaseSync(folder === null ? ':memory:' : join(folder, 'ringside.sqlite'));
      this.db.exec('PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;');
      this.db.exec(
        'BEGIN EXCLUSIVE;' +
          'CREATE TABLE IF NOT EXISTS topologies (name TEXT PRIMARY KEY, document TEXT NOT NULL, revision INTEGER NOT NULL) STRICT;' +
          'CREATE TABLE IF NOT EXISTS revisions (last INTEGER NOT NULL) STRICT;' +
          'INSERT INTO revisions SELECT 0 WHERE NOT EXISTS (SELECT 1 FROM revisions);' +
          'CREATE TABLE IF NOT EXISTS captures (number INTEGER PRIMARY KEY AUTOINCREMENT, topology TEXT NOT NULL, ' +
          'id TEXT NOT NULL, created TEXT NOT NULL, ended TEXT, spec TEXT NOT NULL, progress TEXT, ' +
          'UNIQUE (topology, id)) STRICT;' +
          'CREATE TABLE IF NOT EXISTS databases (topology TEXT NOT NULL, host TEXT NOT NULL, content TEXT NOT NULL, ' +
          'PRIMARY KEY (topology, host)) STRICT;' +
          'CREATE TABLE IF NOT EXISTS cost_profiles (name TEXT PRIMARY KEY, document TEXT NOT NULL) STRICT;' +
          'COMMIT;',
      );
    } catch (error) {
      const cause = error instanceof Error ? error.message : String(error);
      const hint = /locked|busy/i.test(cause) ? ' (another Ringside uses this folder)' : '';
      throw new StoreError(`RINGSIDE_DATA_DIR ${folder ?? ''} cannot be used: ${cause}${hint}`);
    }
  }

  all(): StoredTopology[] {
    const rows = this.db.prepare('SELECT name, document, revision FROM topologies ORDER BY name').all();
    return rows.map((r) => ({
      name: String(r['name']),
      document: String(r['document']),
      revision: Number(r['revision']),
    }));
  }

  /** Writes the document and returns its revision. What clients have made of the databases is gone with the one before it. */
  put(name: string, document: string): number {
    this.db.exec('BEGIN IMMEDIATE');
    try {
      const row = this.db.prepare('UPDATE revisions SET last = last + 1 RETURNING last').get();
      const revision = Number(row?.['last']);
      this.db
        .prepare(
          'INSERT INTO topologies (name, document, revision) VALUES (?, ?, ?) ' +
            'ON CONFLICT (name) DO UPDATE SET document = excluded.document, revision = excluded.revision',
        )
        .run(name, document, revision);
      this.deleteDatabases(name);
      this.db.exec('COMMIT');
      return revision;
    } catch (error) {
      this.db.exec('ROLLBACK');
      throw error;
    }
  }

  /** Databases of a topology's hosts that clients have changed. */
  databases(topology: string): SavedDatabases {
    const rows = this.db.prepare('SELECT host, content FROM databases WHERE topology = ?').all(topology);
    return Object.fromEntries(rows.map((row) => [String(row['host']), JSON.parse(String(row['content']))]));
  }
  putDatabase(topology: string, host: string, rows: SavedDatabases[string]): void {
    this.db
      .prepare(
        'INSERT INTO databases (topology, host, content) VALUES (?, ?, ?) ' +
          'ON CONFLICT (topology, host) DO UPDATE SET content = excluded.content',
      )
      .run(topology, host, JSON.stringify(rows));
  }
  private deleteDatabases(topology: string): void {
    this.db.prepare('DELETE FROM databases WHERE topology = ?').run(topology);
  }

  delete(name: string): void {
    this.deleteDatabases(name);
    this.db.prepare('DELETE FROM topologies WHERE name = ?').run(name);
  }

  /** Cost profiles of users, as JSON texts. */
  profiles(): { readonly name: string; readonly document: string }[] {
    const rows = this.db.prepare('SELECT name, document FROM cost_profiles ORDER BY name').all();
    return rows.map((row) => ({ name: String(row['name']), document: String(row['document']) }));
  }
  putProfile(name: string, document: string): void {
    this.db
      .prepare(
        'INSERT INTO cost_profiles (name, document) VALUES (?, ?) ' +
          'ON CONFLICT (name) DO UPDATE SET document = excluded.document',
      )
      .run(name, document);
  }
  deleteProfile(name: string): void {
    this.db.prepare('DELETE FROM cost_profiles WHERE name = ?').run(name);
  }

  captures(): StoredCapture[] {
    return this.db.prepare('SELECT * FROM captures ORDER BY number').all().map(captureOf);
  }
  /** `id` null: made of the number. */
  addCapture(topology: string, id: string | null, spec: string): StoredCapture {
    const created = new Date().toISOString();
    const add = this.db.prepare('INSERT INTO captures (topology, id, created, spec) VALUES (?, ?, ?, ?)');
    // An id of its own that no name can be, until the number is known.
    const { lastInsertRowid } = add.run(topology, id ?? `/${created}`, created, spec);
    const number = Number(lastInsertRowid);
    const name = id ?? `capture-${number}`;
    this.db.prepare('UPDATE captures SET id = ? WHERE number = ?').run(name, number);
    return { number, topology, id: name, created, ended: null, spec, progress: null };
  }
  updateCapture(number: number, progress: string, ended: string): void {
    this.db.prepare('UPDATE captures SET progress = ?, ended = ? WHERE number = ?').run(progress, ended, number);
  }
  deleteCapture(number: number): void {
    this.db.prepare('DELETE FROM captures WHERE number = ?').run(number);
  }

  close(): void {
    this.db.close();
  }
}

type Row = Readonly<Record<string, unknown>>;
const textOrNull = (value: unknown): string | null => (value === null ? null : String(value));
function captureOf(row: Row): StoredCapture {
  return {
    number: Number(row['number']),
    topology: String(row['topology']),
    id: String(row['id']),
    created: String(row['created']),
    ended: textOrNull(row['ended']),
    spec: String(row['spec']),
    progress: textOrNull(row['progress']),
  };
}
