/** A bridge of Open vSwitch as its datapath and its host see it: a name, a place, and those ports of the datapath that are its own. */
import type { Port } from '../../host/port.ts';
import type { KernelDatapath } from './kernel-datapath.ts';
import type { NetdevDatapath } from './netdev-datapath.ts';

export class OvsBridge {
  /** With its host's prefix. */
  declare readonly name: string;
  declare readonly place: number;
  declare readonly datapath: KernelDatapath | NetdevDatapath;
  /** By datapath port number. */
  readonly ports = new Map<number, Port>();
  /** Told of ports that came and went: what is learned of them is the slow path's. */
  onPorts: { added(port: Port): void; removed(port: Port): void } = { added: () => {}, removed: () => {} };

  constructor(name: string, place: number, datapath: KernelDatapath | NetdevDatapath) {
    this.name = name;
    this.place = place;
    this.datapath = datapath;
  }

  addPort(port: Port): void {
    this.ports.set(port.number, port);
    this.datapath.enterPort(port, this.place);
    this.onPorts.added(port);
  }
  /** A port is plugged into the running bridge, at the recorder's stamp. */
  plugPort(port: Port, contextBits: number): void {
    this.ports.set(port.number, port);
    this.datapath.enterPort(port, this.place);
    this.onPorts.added(port);
    this.datapath.plugPort(port, contextBits);
  }
  /** A port is taken out of the running bridge, at the recorder's stamp. */
  removePort(number: number, contextBits: number): void {
    const port = this.ports.get(number);
    this.ports.delete(number);
    if (port !== undefined) this.onPorts.removed(port);
    this.datapath.removePort(number, contextBits);
  }
  /** The same, where what is behind the port stays, and keeps the port for another time. */
  unplugPort(number: number, contextBits: number): void {
    const port = this.ports.get(number);
    this.ports.delete(number);
    if (port !== undefined) this.onPorts.removed(port);
    this.datapath.removePort(number, contextBits, false);
  }
  /** The port that goes by the number, or went. */
  port(number: number): Port {
    return this.datapath.port(number);
  }
}
