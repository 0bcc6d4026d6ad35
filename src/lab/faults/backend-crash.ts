/**
 * A vhost-user back-end that dies: at a time, or whenever it has carried so many frames; and is started again. What dies is the
 * device of one port with its connection (machine/backend/vhost-user.ts, crash()); the switch and its other ports go on.
 *
 * DEVIATION: tries to connect while no back-end is there are counted and not carried out.
 */
import { assert } from '../../engine/assert.ts';
import type { NicWiring } from '../devices/netdev/nic-wiring.ts';
import { connectionOf, killBackend, reconnect } from '../devices/netdev/reconnect.ts';
import type { VhostUserConnection } from '../devices/netdev/vhost-user-connection.ts';
import type { NicDevice } from '../devices/nic-device.ts';
import type { Vmm } from '../devices/vmm/vmm.ts';
import type { Alarm } from './alarms.ts';
import { Fault, type FaultWorld } from './fault.ts';
import type { FaultSpec } from './fault-types.ts';

export type BackendCrashSpec = Extract<FaultSpec, { kind: 'backend_crash' }>;
type UserWiring = Extract<NicWiring, { kind: 'vhost-user' }>;

const MS = 1e6;

export class BackendCrash extends Fault {
  readonly spec: BackendCrashSpec;
  readonly nic: NicDevice;
  private readonly vmm: Vmm;
  private readonly wiring: UserWiring;
  private readonly connection: VhostUserConnection;
  private alarm: Alarm | null = null;
  private deleted = false;

  constructor(world: FaultWorld, number: number, spec: BackendCrashSpec, vmm: Vmm, nic: NicDevice) {
    super(world, number, nic.wiring.backendPlace);
    const connection = connectionOf(nic);
    assert(nic.wiring.kind === 'vhost-user' && connection !== null, 'it has a vhost-user back-end');
    this.spec = spec;
    this.vmm = vmm;
    this.nic = nic;
    this.wiring = nic.wiring;
    this.connection = connection;
    if (spec.everyFrames === null) this.alarmAt(Math.max(this.time, spec.atNs ?? 0), (bits) => this.strike(bits));
    else if (spec.atNs === null) this.count();
    else this.alarmAt(Math.max(this.time, spec.atNs), () => this.count());
  }
  private alarmAt(at: number, run: (contextBits: number) => void): void {
    this.alarm = this.world.alarms.set(at, (contextBits) => {
      this.alarm = null;
      run(contextBits);
    });
  }
  /** From now on frames are counted. */
  private count(): void {
    const { port, pmds } = this.wiring;
    port.framesLeft = this.spec.everyFrames!;
    port.onLastFrame = () => this.strike(pmds[0]!.id << 20);
  }
  private get there(): boolean {
    return this.nic.backend === this.connection;
  }

  override look(): void {
    if (this.phase === 'ARMED' && !this.there) this.ended('the NIC has another back-end');
  }

  /** Now. */
  private strike(contextBits: number): void {
    if (!this.there) {
      this.ended('the NIC has another back-end');
      return;
    }
    if (!this.connection.connected) {
      this.missed++;
      this.rearm();
      return;
    }
    this.begins(contextBits);
    const { restartAfterNs } = this.spec;
    const dropped = killBackend(this.vmm, this.nic, contextBits, () => {
      this.last!.noticedNs = this.time;
      this.find();
    });
    this.lost(
      dropped,
      this.wiring.port.rxqs.reduce((n, rxq) => n + rxq.again, 0),
    );
    if (restartAfterNs !== null) this.alarmAt(this.time + restartAfterNs, () => this.restart());
  }
  private restart(): void {
    if (this.last === null || this.last.restartedNs !== null) return;
    this.last.restartedNs = this.time;
    this.find();
  }

  /**
   * Both sides have come so far that they can find each other: a back-end that connects does so when it is there, QEMU tries so
   * many ms after it lost the last one, and again and again (chardev `reconnect`).
   */
  private find(): void {
    const { noticedNs, restartedNs } = this.last!;
    if (noticedNs === null || restartedNs === null) return;
    const { mode, reconnectMs } = this.connection.options;
    if (mode === 'server') {
      this.connect(0);
      return;
    }
    if (reconnectMs === 0) {
      this.ended('QEMU connects, and does not try again (reconnectMs 0)');
      return;
    }
    const tries = Math.max(1, Math.ceil((restartedNs - noticedNs) / (reconnectMs * MS)));
    this.alarmAt(noticedNs + tries * reconnectMs * MS, () => this.connect(tries - 1));
  }
  private connect(tries: number): void {
    reconnect(this.vmm, this.nic, this.connection, tries, (connected) => {
      if (!connected) {
        this.ended(this.there ? 'QEMU and the back-end did not come to terms' : 'the NIC has another back-end');
        return;
      }
      this.recovers(this.vmm.actorBits);
      this.rearm();
    });
  }
  /** It strikes again, or it is over. */
  private rearm(): void {
    const { everyFrames, times } = this.spec;
    if (this.deleted || everyFrames === null || (times !== null && this.strikes >= times)) {
      this.ended();
      return;
    }
    this.phase = 'ARMED';
    this.count();
  }

  override end(): void {
    if (this.phase === 'ENDED') return;
    this.deleted = true;
    if (this.phase === 'ARMED') {
      if (this.alarm !== null) this.world.alarms.cancel(this.alarm);
      if (this.spec.everyFrames !== null) this.wiring.port.framesLeft = Number.POSITIVE_INFINITY;
      this.ended();
      return;
    }
    if (this.last!.restartedNs !== null) return; // on its way
    if (this.alarm !== null) this.world.alarms.cancel(this.alarm);
    this.alarmAt(this.time, () => this.restart());
  }
}
