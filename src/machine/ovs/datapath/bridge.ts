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

  constructor(name: string, place: number, datapath: KernelDatapath | NetdevDatapath) {
    this.name = name;
    this.place = place;
    this.datapath = datapath;
  }

  addPort(port: Port): void {
    this.ports.set(port.number, port);
    this.datapath.enterPort(port, this.place);
  }
  /** A port is plugged into the running bridge, at the recorder's stamp. */
  plugPort(port: Port, contextBits: number): void {
    this.ports.set(port.number, port);
    this.datapath.enterPort(port, this.place);
    this.datapath.plugPort(port, contextBits);
  }
  /**
   * A port is taken out of the running bridge, at the recorder's stamp. `closes` false: what is behind the port stays, and keeps it
   * for another time.
   */
  removePort(number: number, contextBits: number, closes = true): void {
    this.ports.delete(number);
    this.datapath.removePort(number, contextBits, closes);
  }
  /** The port that goes by the number, or went. */
  port(number: number): Port {
    return this.datapath.port(number);
  }
}
