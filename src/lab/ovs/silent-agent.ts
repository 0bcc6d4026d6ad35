/** A bridge that speaks no OpenFlow: sessions end at once. */
import type { BridgeAgent } from '../../machine/ovs/vswitchd/switch-bridge.ts';

export const silentAgent = (): BridgeAgent => ({
  accept: (peer) => {
    peer.close();
    return { receive: () => {}, closed: () => {} };
  },
  setRemotes: () => {},
  setDatapathId: () => {},
  setDescription: () => {},
  controllers: () => [],
  connect: () => {},
  tick: () => {},
  close: () => {},
});
