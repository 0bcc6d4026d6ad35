/** What an OpenFlow flow matches: values, and the bits of them that count (ovs include/openvswitch/match.h). */
import { Flow } from './flow.ts';

export class Match {
  readonly flow = new Flow();
  readonly mask = new Flow();
}
