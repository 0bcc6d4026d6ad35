/** Labels as a world's catalog gives them, with what a place leaves out taken from the NIC or guest that it belongs to. */
import type { Place, PlaceType, WorldCatalog } from '../../engine/catalog.ts';

/** What a place and a context have in common. */
interface Labelled {
  readonly backend?: string;
  readonly guest?: string;
  readonly nic?: string;
  readonly host?: string;
}

export class WorldNames {
  readonly catalog: WorldCatalog;
  private readonly backends = new Map<string, Set<string>>();
  private readonly hostsOf = new Map<string, Set<string>>();

  constructor(catalog: WorldCatalog) {
    this.catalog = catalog;
    for (const p of catalog.places) {
      if (p.backend !== undefined && p.guest !== undefined && p.retired !== true) {
        const keys = [`${p.host}|${p.guest}|`, `${p.host}|${p.guest}|${p.nic ?? ''}`];
        for (const key of keys) this.backends.set(key, (this.backends.get(key) ?? new Set()).add(p.backend));
      }
      for (const name of [p.guest, p.bridge]) {
        if (name !== undefined) this.hostsOf.set(name, (this.hostsOf.get(name) ?? new Set()).add(p.host ?? ''));
      }
    }
  }
  places(...types: readonly PlaceType[]): Place[] {
    return this.catalog.places.filter((p) => types.includes(p.type));
  }
  /** A guest's or bridge's name, with its host in front where two hosts have one of that name. */
  private onHost(name: string | undefined, host: string | undefined): string {
    if (name === undefined) return '';
    return (this.hostsOf.get(name)?.size ?? 0) > 1 ? `${host}/${name}` : name;
  }
  guest(p: Labelled): string {
    return this.onHost(p.guest, p.host);
  }
  bridge(p: Place): string {
    return this.onHost(p.bridge ?? (p.type === 'bridge' ? p.name : undefined), p.host);
  }
  /** The backend of a place, of its NIC, or of its guest when all the guest's NICs have the same; else empty. */
  backend(p: Labelled): string {
    if (p.backend !== undefined) return p.backend;
    if (p.guest === undefined) return '';
    const of = this.backends.get(`${p.host}|${p.guest}|${p.nic ?? ''}`);
    return of?.size === 1 ? [...of][0]! : '';
  }
}
