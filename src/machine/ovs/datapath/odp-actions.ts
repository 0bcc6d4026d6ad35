/** What a datapath does with a frame: the actions of a datapath flow (linux include/uapi/linux/openvswitch.h, OVS_ACTION_ATTR_…). */

/** Headers that `set` rewrites, each a masked set: bytes in network order, `mask` null where all of it is set. */
export interface SetKey {
  readonly eth?: {
    readonly src: Uint8Array;
    readonly dst: Uint8Array;
    readonly srcMask: Uint8Array | null;
    readonly dstMask: Uint8Array | null;
  };
  readonly ipv4?: Ipv4Set;
  readonly ipv6?: Ipv6Set;
  /** tcp, udp or sctp: the frame's protocol says which. */
  readonly tp?: {
    readonly protocol: 'tcp' | 'udp' | 'sctp';
    readonly src: number;
    readonly dst: number;
    readonly srcMask: number;
    readonly dstMask: number;
  };
  readonly icmp?: {
    readonly version: 4 | 6;
    readonly type: number;
    readonly code: number;
    readonly typeMask: number;
    readonly codeMask: number;
  };
  readonly arp?: {
    readonly sip: Uint8Array;
    readonly tip: Uint8Array;
    readonly op: number;
    readonly sha: Uint8Array;
    readonly tha: Uint8Array;
    /** Bits that are set: `op` 0xff or 0. */
    readonly mask: {
      readonly sip: Uint8Array;
      readonly tip: Uint8Array;
      readonly op: number;
      readonly sha: Uint8Array;
      readonly tha: Uint8Array;
    };
  };
  readonly nd?: NdSet & { readonly mask: NdSet };
  readonly skbMark?: { readonly value: number; readonly mask: number };
  readonly skbPriority?: { readonly value: number; readonly mask: number };
  readonly mpls?: { readonly lse: number };
}
/** Neighbour discovery: 16, 6 and 6 bytes. */
export interface NdSet {
  readonly target: Uint8Array;
  readonly sll: Uint8Array;
  readonly tll: Uint8Array;
}
/** `mask` fields: which bits are set. Addresses of 4 and 16 bytes. */
export interface Ipv4Set {
  readonly src: Uint8Array;
  readonly dst: Uint8Array;
  readonly tos: number;
  readonly ttl: number;
  readonly mask: { readonly src: Uint8Array; readonly dst: Uint8Array; readonly tos: number; readonly ttl: number };
}
export interface Ipv6Set {
  readonly src: Uint8Array;
  readonly dst: Uint8Array;
  readonly label: number;
  readonly tclass: number;
  readonly hlimit: number;
  readonly mask: {
    readonly src: Uint8Array;
    readonly dst: Uint8Array;
    readonly label: number;
    readonly tclass: number;
    readonly hlimit: number;
  };
}

/** Why a packet goes to ovs-vswitchd by an action (ovs lib/odp-util.h, struct user_action_cookie). */
export interface ControllerCookie {
  readonly reason: number;
  readonly dontSend: boolean;
  readonly continuation: boolean;
  /** What ofproto keeps for the translation that sent it: in_port, registers, tables (`recirc_id` of the cookie). */
  readonly recircId: number;
  readonly ruleCookie: bigint;
  readonly controllerId: number;
  readonly maxLen: number;
}

export interface CtAction {
  readonly type: 'ct';
  readonly commit: boolean;
  readonly force: boolean;
  readonly zone: number;
  readonly mark: { readonly value: number; readonly mask: number } | null;
  readonly label: { readonly value: Uint8Array; readonly mask: Uint8Array } | null;
  readonly helper: string | null;
}

export type OdpAction =
  /** A port by its datapath number. */
  | { readonly type: 'output'; readonly port: number }
  | { readonly type: 'trunc'; readonly maxLen: number }
  | { readonly type: 'push_vlan'; readonly tpid: number; readonly vid: number; readonly pcp: number }
  | { readonly type: 'pop_vlan' }
  | { readonly type: 'push_mpls'; readonly lse: number; readonly ethertype: number }
  | { readonly type: 'pop_mpls'; readonly ethertype: number }
  | { readonly type: 'set'; readonly key: SetKey }
  | { readonly type: 'recirc'; readonly id: number }
  | { readonly type: 'hash'; readonly algorithm: 'l4' | 'sym_l4'; readonly basis: number }
  | CtAction
  | { readonly type: 'ct_clear' }
  | { readonly type: 'meter'; readonly meter: number }
  | { readonly type: 'controller'; readonly cookie: ControllerCookie }
  /** To ovs-vswitchd's slow path for each frame. */
  | { readonly type: 'slow_path'; readonly reason: 'controller' | 'action' | 'stp' | 'cfm' | 'match' }
  | { readonly type: 'clone'; readonly actions: readonly OdpAction[] }
  | { readonly type: 'sample'; readonly probability: number; readonly actions: readonly OdpAction[] }
  | {
      readonly type: 'check_pkt_len';
      readonly length: number;
      readonly greater: readonly OdpAction[];
      readonly lessEqual: readonly OdpAction[];
    }
  | { readonly type: 'drop'; readonly reason: number };
