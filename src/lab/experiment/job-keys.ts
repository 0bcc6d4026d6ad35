/** What is kept of the jobs of a plan, so that repetitions are cheap: their keys, which differ by the seed, and their documents. */
import { createHash, type Hash } from 'node:crypto';
import { canonicalJson, type JobSpec } from '../job/job.ts';

/** Keys of jobs that differ by their seeds: what stands before the seed is hashed once. */
export class JobKeys {
  /** Characters of a job's canonical JSON. */
  readonly characters: number;
  private readonly before: Hash;
  private readonly after: string;

  constructor(job: JobSpec) {
    const texts = [1, 2].map((seed) => canonicalJson({ ...job, document: { ...job.document, seed } }));
    const [one = '', two = ''] = texts;
    // Nothing else is different, whatever stands in the document.
    const at = firstDifference(one, two);
    this.before = createHash('sha256').update(one.slice(0, at));
    this.after = one.slice(at + 1);
    this.characters = one.length;
  }
  /** contentHash() of the job with this seed. */
  of(seed: number): string {
    return this.before.copy().update(`${seed}${this.after}`).digest('hex');
  }
}

function firstDifference(a: string, b: string): number {
  let at = 0;
  while (a.charCodeAt(at) === b.charCodeAt(at)) at++;
  return at;
}

/** The newest entries, so many and of so many characters at most; one alone may be larger. */
export class KeptByCharacters<K, V> {
  private readonly entries = new Map<K, { readonly value: V; readonly characters: number }>();
  private readonly most: number;
  private readonly mostCharacters: number;
  private total = 0;

  constructor(most: number, mostCharacters: number) {
    this.most = most;
    this.mostCharacters = mostCharacters;
  }
  get size(): number {
    return this.entries.size;
  }
  get characters(): number {
    return this.total;
  }
  get(key: K): V | undefined {
    return this.entries.get(key)?.value;
  }
  /** Keeps a value under a key that has none yet; the oldest ones go. */
  keep(key: K, value: V, characters: number): void {
    this.entries.set(key, { value, characters });
    this.total += characters;
    for (const [oldest, entry] of this.entries) {
      if (this.size === 1 || (this.size <= this.most && this.total <= this.mostCharacters)) break;
      this.entries.delete(oldest);
      this.total -= entry.characters;
    }
  }
}
