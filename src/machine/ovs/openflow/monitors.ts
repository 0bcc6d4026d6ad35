/** Flow monitors of one connection, and the updates that wait to be sent (ovs ofproto/connmgr.c, ofmonitor_…). */
import type { OfAction } from '../flow/actions.ts';
import { OFPG_ANY, OFPP_NONE, OFPTT_ALL } from '../flow/actions.ts';
import { outputsTo, outputsToGroup } from '../ofproto/tables/references.ts';
import type { Rule } from '../ofproto/tables/rule.ts';
import { isLoose } from '../ofproto/tables/rule-store.ts';
import type { Connection } from './connection.ts';
import { ofError } from './wire/errors.ts';
import {
  encodePaused,
  type MonitorRequest,
  monitorReply,
  OFPFME_ADDED,
  OFPFME_MODIFIED,
  OFPFME_REMOVED,
  OFPFMF_ADD,
  OFPFMF_INSTRUCTIONS,
  OFPFMF_MODIFY,
  OFPFMF_ONLY_OWN,
  OFPFMF_REMOVED,
  putAbbreviated,
  putFlowUpdate,
} from './wire/monitor.ts';
import type { MultipartReply } from './wire/multipart.ts';

/** Monitors of one connection. */
const MAX_MONITORS = 1024;
/** While so much waits, nothing more is told; afterwards what has changed meanwhile. */
const PAUSE_BYTES = 128 * 1024;

const FLAG_OF: Readonly<Record<number, number>> = {
  [OFPFME_ADDED]: OFPFMF_ADD,
  [OFPFME_REMOVED]: OFPFMF_REMOVED,
  [OFPFME_MODIFIED]: OFPFMF_MODIFY,
};

export class MonitorSet {
  declare private readonly connection: Connection;
  private readonly monitors = new Map<number, MonitorRequest>();
  private updates: MultipartReply | null = null;
  private abbreviated = false;
  /** Flows that came or changed while paused; null: not paused. */
  private missed: Map<Rule, number> | null = null;

  constructor(connection: Connection) {
    this.connection = connection;
  }

  get size(): number {
    return this.monitors.size;
  }

  add(request: MonitorRequest): void {
    if (this.monitors.has(request.id)) throw ofError('OFPMOFC_MONITOR_EXISTS');
    if (this.monitors.size >= MAX_MONITORS) throw ofError('OFPMOFC_UNKNOWN');
    this.monitors.set(request.id, request);
  }
  delete(id: number): void {
    if (!this.monitors.delete(id)) throw ofError('OFPMOFC_UNKNOWN_MONITOR');
  }
  /** Takes back what was just made. */
  forget(ids: readonly number[]): void {
    for (const id of ids) this.monitors.delete(id);
  }

  /** `xid` of the FLOW_MOD where this connection asked for the change; null: it did not. */
  report(event: number, rule: Rule, reason: number, old: Rule | null, xid: number | null): void {
    if (this.monitors.size === 0 || !this.connection.connected) return;
    const flags = this.flagsFor(event, rule, old);
    if (flags === 0) return;
    if (this.missed !== null) {
      const known = this.missed.get(rule) ?? (old === null ? undefined : this.missed.get(old));
      if (old !== null) this.missed.delete(old);
      if (event !== OFPFME_REMOVED) {
        this.missed.set(rule, known === OFPFME_ADDED ? OFPFME_ADDED : event);
        return;
      }
      // What came and went during the pause was never there.
      this.missed.delete(rule);
      if (known === OFPFME_ADDED) return;
    }
    const { version } = this.connection;
    if (this.updates === null) {
      this.updates = monitorReply(version, 0);
      this.abbreviated = false;
    }
    if ((flags & OFPFMF_ONLY_OWN) !== 0 || xid === null || this.missed !== null) {
      const actions = (flags & OFPFMF_INSTRUCTIONS) !== 0 ? rule.actions : null;
      this.append(event, rule, event === OFPFME_REMOVED ? reason : 0, actions);
    } else if (!this.abbreviated) {
      this.abbreviated = true;
      this.updates.append((out) => putAbbreviated(out, version, xid));
    }
  }

  private append(event: number, rule: Rule, reason: number, actions: readonly OfAction[] | null): void {
    const { version } = this.connection;
    this.updates ??= monitorReply(version, 0);
    this.updates.append((out) => putFlowUpdate(out, version, event, rule, reason, actions));
  }

  private flagsFor(event: number, rule: Rule, old: Rule | null): number {
    const wanted = FLAG_OF[event]!;
    let flags = 0;
    for (const monitor of this.monitors.values()) {
      if ((monitor.flags & wanted) === 0) continue;
      if (monitor.table !== OFPTT_ALL && monitor.table !== rule.table) continue;
      if (!this.outputs(monitor, rule, old)) continue;
      if (isLoose(rule, monitor.match)) flags |= monitor.flags;
    }
    return flags;
  }
  private outputs(monitor: MonitorRequest, rule: Rule, old: Rule | null): boolean {
    const { outPort, outGroup } = monitor;
    if (outPort !== OFPP_NONE && !outputsTo(rule.actions, outPort) && !(old && outputsTo(old.actions, outPort)))
      return false;
    return outGroup === OFPG_ANY || outputsToGroup(rule.actions, outGroup);
  }

  /** Sends what has come together; pauses where the peer does not keep up (ovs ofmonitor_flush()). */
  flush(): void {
    const { connection, updates } = this;
    if (updates !== null) {
      this.updates = null;
      connection.sendAll(updates.finish());
      if (this.missed === null && connection.peer.queued > PAUSE_BYTES) {
        this.missed = new Map();
        connection.sendAll(encodePaused(connection.version, true));
      }
    }
  }
  /** Once a paused peer has read what waited for it, it is told what has changed since. */
  resume(): void {
    const { connection, missed } = this;
    if (missed === null || connection.peer.queued > 0) return;
    this.missed = null;
    for (const [rule, event] of missed) {
      if (rule.state !== 'inserted') continue;
      const flags = this.flagsFor(event, rule, null);
      if (flags !== 0) this.append(event, rule, 0, (flags & OFPFMF_INSTRUCTIONS) !== 0 ? rule.actions : null);
    }
    this.flush();
    connection.sendAll(encodePaused(connection.version, false));
  }
}
