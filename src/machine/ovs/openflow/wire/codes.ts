/** Versions, message types and reserved numbers of OpenFlow (ovs include/openflow/openflow-common.h, openflow-1.0.h to -1.5.h). */
import { OFPP_MAX, OfError } from '../../flow/actions.ts';

export const OFP10_VERSION = 1;
export const OFP11_VERSION = 2;
export const OFP12_VERSION = 3;
export const OFP13_VERSION = 4;
export const OFP14_VERSION = 5;
export const OFP15_VERSION = 6;
/** Bit n: version n. What bridges speak where `Bridge.protocols` is empty. */
// DEVIATION: OpenFlow 1.1 and 1.2, which Open vSwitch speaks by default, too, are not offered; so our HELLO has a version bitmap.
export const SUPPORTED_VERSIONS =
  (1 << OFP10_VERSION) | (1 << OFP13_VERSION) | (1 << OFP14_VERSION) | (1 << OFP15_VERSION);

export const OFPT_HELLO = 0;
export const OFPT_ERROR = 1;
export const OFPT_ECHO_REQUEST = 2;
export const OFPT_ECHO_REPLY = 3;
export const OFPT_EXPERIMENTER = 4;
export const OFPT_FEATURES_REQUEST = 5;
export const OFPT_FEATURES_REPLY = 6;
export const OFPT_GET_CONFIG_REQUEST = 7;
export const OFPT_GET_CONFIG_REPLY = 8;
export const OFPT_SET_CONFIG = 9;
export const OFPT_PACKET_IN = 10;
export const OFPT_FLOW_REMOVED = 11;
export const OFPT_PORT_STATUS = 12;
export const OFPT_PACKET_OUT = 13;
export const OFPT_FLOW_MOD = 14;
// OpenFlow 1.0 has no groups and tables to change, so what follows is numbered differently there.
export const OFPT10_PORT_MOD = 15;
export const OFPT10_STATS_REQUEST = 16;
export const OFPT10_STATS_REPLY = 17;
export const OFPT10_BARRIER_REQUEST = 18;
export const OFPT10_BARRIER_REPLY = 19;
export const OFPT10_QUEUE_GET_CONFIG_REQUEST = 20;
export const OFPT10_QUEUE_GET_CONFIG_REPLY = 21;
export const OFPT11_GROUP_MOD = 15;
export const OFPT11_PORT_MOD = 16;
export const OFPT11_TABLE_MOD = 17;
export const OFPT11_MULTIPART_REQUEST = 18;
export const OFPT11_MULTIPART_REPLY = 19;
export const OFPT11_BARRIER_REQUEST = 20;
export const OFPT11_BARRIER_REPLY = 21;
export const OFPT11_QUEUE_GET_CONFIG_REQUEST = 22;
export const OFPT11_QUEUE_GET_CONFIG_REPLY = 23;
export const OFPT12_ROLE_REQUEST = 24;
export const OFPT12_ROLE_REPLY = 25;
export const OFPT13_GET_ASYNC_REQUEST = 26;
export const OFPT13_GET_ASYNC_REPLY = 27;
export const OFPT13_SET_ASYNC = 28;
export const OFPT13_METER_MOD = 29;
export const OFPT14_ROLE_STATUS = 30;
export const OFPT14_TABLE_STATUS = 31;
export const OFPT14_REQUESTFORWARD = 32;
export const OFPT14_BUNDLE_CONTROL = 33;
export const OFPT14_BUNDLE_ADD_MESSAGE = 34;

export const NX_VENDOR_ID = 0x2320;
export const ONF_VENDOR_ID = 0x4f4e4600;
export const NXT_ROLE_REQUEST = 10;
export const NXT_ROLE_REPLY = 11;
export const NXT_SET_FLOW_FORMAT = 12;
export const NXT_FLOW_MOD = 13;
export const NXT_FLOW_REMOVED = 14;
export const NXT_FLOW_MOD_TABLE_ID = 15;
export const NXT_SET_PACKET_IN_FORMAT = 16;
export const NXT_PACKET_IN = 17;
export const NXT_FLOW_AGE = 18;
export const NXT_SET_ASYNC_CONFIG = 19;
export const NXT_SET_CONTROLLER_ID = 20;
export const NXT_FLOW_MONITOR_CANCEL = 21;
export const NXT_FLOW_MONITOR_PAUSED = 22;
export const NXT_FLOW_MONITOR_RESUMED = 23;
export const NXT_SET_ASYNC_CONFIG2 = 27;
export const NXT_RESUME = 28;
export const NXT_CT_FLUSH_ZONE = 29;
export const NXT_PACKET_IN2 = 30;
export const ONFT13_FLOW_MONITOR_CANCEL = 1870;
export const ONFT13_FLOW_MONITOR_PAUSED = 1871;
export const ONFT13_FLOW_MONITOR_RESUMED = 1872;
export const ONFT13_BUNDLE_CONTROL = 2300;
export const ONFT13_BUNDLE_ADD_MESSAGE = 2301;

export const OFPMP_DESC = 0;
export const OFPMP_FLOW = 1;
export const OFPMP_AGGREGATE = 2;
export const OFPMP_TABLE = 3;
export const OFPMP_PORT_STATS = 4;
export const OFPMP_QUEUE = 5;
export const OFPMP_GROUP = 6;
export const OFPMP_GROUP_DESC = 7;
export const OFPMP_GROUP_FEATURES = 8;
export const OFPMP_METER = 9;
export const OFPMP_METER_CONFIG = 10;
export const OFPMP_METER_FEATURES = 11;
export const OFPMP_TABLE_FEATURES = 12;
export const OFPMP_PORT_DESC = 13;
export const OFPMP_TABLE_DESC = 14;
export const OFPMP_QUEUE_DESC = 15;
export const OFPMP_FLOW_MONITOR = 16;
export const OFPMP_EXPERIMENTER = 0xffff;
export const NXST_FLOW = 0;
export const NXST_AGGREGATE = 1;
export const NXST_FLOW_MONITOR = 2;
export const ONFST13_FLOW_MONITOR = 1870;

export const OFPQ_ALL = 0xffffffff;

export const HEADER = 8;
/** Header and type, flags and padding of a multipart message; 12 in OpenFlow 1.0. */
export const multipartHeader = (version: number): number => (version === OFP10_VERSION ? 12 : 16);

/** Ports of Open vSwitch are below it, apart from the reserved ones. */
export const OFPP10_MAX = 0xff00;

/** A port number of OpenFlow 1.0, 16 bits. */
export function portFrom10(port: number): number {
  return port < OFPP10_MAX ? port : port + 0xffff0000;
}
export function portTo10(port: number): number {
  return port & 0xffff;
}
/** A port number of later versions. Throws OFPBAC_BAD_OUT_PORT: Open vSwitch has ports of 16 bits, and the reserved ones (ovs lib/ofp-port.c ofputil_port_from_ofp11()). */
export function portFrom11(port: number): number {
  if (port >= OFPP10_MAX && port < OFPP_MAX) throw new OfError('OFPBAC_BAD_OUT_PORT');
  return port;
}
