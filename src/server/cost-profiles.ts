/**
 * The profiles that topologies may name: those that come with Ringside and those of users, which outlive the server. A profile
 * that a topology names keeps its costs, and one that others are built on stays as it is but for its description, so that what
 * stands means the same after a restart. So no change ever moves another profile, and there are no cycles.
 */
import { costsHash, type ProfileBook, type ProfileSheet, SHIPPED_PROFILES } from '../engine/cost-profile.ts';
import { type BaseBook, type CostProfileDocument, parseCostProfile } from '../lab/cost-profile-document.ts';
import { canonicalJson } from '../lab/job/job.ts';
import { notFound, Problem } from './problem.ts';
import type { TopologyStore } from './store.ts';

/** Profiles of users. */
const MOST_PROFILES = 256;

export interface KnownProfile {
  readonly sheet: ProfileSheet;
  readonly hash: string;
  /** Null of a shipped one. */
  readonly document: CostProfileDocument | null;
}

export class CostProfiles {
  private readonly store: TopologyStore;
  private readonly known = new Map<string, KnownProfile>();
  /** What documents may name, for parseTopology(). */
  readonly book: ProfileBook & BaseBook;
  /** Names of topologies that name a profile, or are being built with it. */
  usersOf: (profile: string) => readonly string[] = () => [];

  constructor(store: TopologyStore) {
    this.store = store;
    const book = new Map<string, ProfileSheet>();
    this.book = book;
    for (const sheet of SHIPPED_PROFILES.values()) this.enter(sheet, null);
    this.restore();
  }

  /** Bases first: they may come later by name. What is plausible may have changed since they were put; topologies name them. */
  private restore(): void {
    let waiting = this.store.profiles();
    for (let before = -1; waiting.length !== before; ) {
      before = waiting.length;
      waiting = waiting.filter(({ name, document }) => {
        const parsed = parseCostProfile(JSON.parse(document), name, this.book, true);
        if (parsed.ok) this.enter(parsed.sheet, parsed.document);
        return !parsed.ok;
      });
    }
    for (const { name, document } of waiting) {
      const parsed = parseCostProfile(JSON.parse(document), name, this.book, true);
      const faults = parsed.ok ? '' : JSON.stringify(parsed.faults);
      console.error(`the stored cost profile ${name} is not valid for this version: ${faults}`);
    }
  }

  /** By name, those of users after the shipped ones. */
  list(): KnownProfile[] {
    const user = [...this.known.values()].filter((profile) => profile.document !== null);
    const shipped = [...this.known.values()].filter((profile) => profile.document === null);
    return [...shipped, ...user.sort((a, b) => (a.sheet.name < b.sheet.name ? -1 : 1))];
  }

  get(name: string): KnownProfile {
    const found = this.known.get(name);
    if (found === undefined) throw notFound(`There is no cost profile '${name}'`);
    return found;
  }

  /** Creates or replaces; an equal document changes nothing. */
  put(name: string, value: unknown): { readonly profile: KnownProfile; readonly created: boolean } {
    const current = this.known.get(name);
    if (current?.document === null) throw shipped(name);
    const same = current === undefined ? null : parseCostProfile(value, name, this.book, true);
    if (current !== undefined && same?.ok && canonicalJson(current.document) === canonicalJson(same.document))
      return { profile: current, created: false };
    const parsed = parseCostProfile(value, name, this.book);
    if (!parsed.ok) {
      const { faults } = parsed;
      const detail = `The cost profile has ${faults.length} fault${faults.length === 1 ? '' : 's'}`;
      throw new Problem('RINGSIDE_E_VALIDATION', detail, { errors: faults });
    }
    if (current !== undefined && current.hash !== costsHash(parsed.sheet.costs)) this.checkUnnamed(name, 'change');
    if (current !== undefined && meaning(current.sheet) !== meaning(parsed.sheet)) this.checkNoBase(name, 'change');
    if (current === undefined && this.known.size - SHIPPED_PROFILES.size >= MOST_PROFILES)
      throw new Problem('RINGSIDE_E_TOO_MANY', `This server keeps at most ${MOST_PROFILES} cost profiles of users`);
    write(() => this.store.putProfile(name, JSON.stringify(parsed.document)));
    return { profile: this.enter(parsed.sheet, parsed.document), created: current === undefined };
  }

  remove(name: string): void {
    if (this.get(name).document === null) throw shipped(name);
    this.checkUnnamed(name, 'be deleted');
    this.checkNoBase(name, 'be deleted');
    write(() => this.store.deleteProfile(name));
    this.known.delete(name);
    (this.book as Map<string, ProfileSheet>).delete(name);
  }

  /** Names of the profiles that are built on it, without those that are built on these. */
  baseOf(name: string): string[] {
    return [...this.known.values()].filter(({ sheet }) => sheet.base === name).map(({ sheet }) => sheet.name);
  }

  private checkUnnamed(name: string, what: string): void {
    const users = this.usersOf(name);
    if (users.length > 0) throw kept(`Topologies name the cost profile '${name}'`, what, users);
  }
  private checkNoBase(name: string, what: string): void {
    const built = this.baseOf(name);
    if (built.length > 0) throw kept(`Cost profiles are built on '${name}'`, what, built);
  }

  private enter(sheet: ProfileSheet, document: CostProfileDocument | null): KnownProfile {
    const profile = { sheet, document, hash: costsHash(sheet.costs) };
    this.known.set(sheet.name, profile);
    (this.book as Map<string, ProfileSheet>).set(sheet.name, sheet);
    return profile;
  }
}

/** Everything but words for people. */
function meaning(sheet: ProfileSheet): string {
  return canonicalJson({ ...sheet, description: '' });
}
function kept(why: string, what: string, users: readonly string[]): Problem {
  const some = users.slice(0, 5).join(', ') + (users.length > 5 ? ` and ${users.length - 5} more` : '');
  const detail = `${why}, so it cannot ${what}: ${some}. Put another one under another name`;
  return new Problem('RINGSIDE_E_CONFLICT', detail);
}
function shipped(name: string): Problem {
  return new Problem('RINGSIDE_E_CONFLICT', `The cost profile '${name}' comes with Ringside and never changes`);
}
function write(change: () => void): void {
  try {
    change();
  } catch (error) {
    const cause = error instanceof Error ? error.message : String(error);
    throw new Problem('RINGSIDE_E_STORAGE', `The data folder cannot be written, nothing was changed: ${cause}`);
  }
}
