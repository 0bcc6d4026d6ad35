// The same task for ns-3: UDP frames from one node through a learning bridge to another, every link captured to pcap.
// Build: g++ -O2 -std=c++17 ns3-bridge.cc -Wl,--no-as-needed -lns3-core -lns3-network -lns3-internet -lns3-csma -lns3-bridge
// -lns3-traffic-control -lns3-applications. Usage: ns3-bridge <frames> <frame bytes with FCS> <pcap prefix>; prints received
// frames and wall seconds.
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <iostream>
#include <string>

#include "ns3/bridge-module.h"
#include "ns3/core-module.h"
#include "ns3/csma-module.h"
#include "ns3/internet-module.h"
#include "ns3/network-module.h"

using namespace ns3;

namespace
{
const uint16_t PORT = 4000;
bool first = true;
uint64_t left = 0;
uint64_t received = 0;

void
Send(Ptr<Socket> socket, uint32_t bytes)
{
    socket->Send(Create<Packet>(bytes));
    const Time gap = first ? MilliSeconds(500) : NanoSeconds(500);
    first = false;
    if (--left > 0)
    {
        Simulator::Schedule(gap, &Send, socket, bytes);
    }
}

void
Receive(Ptr<Socket> socket)
{
    while (socket->Recv())
    {
        received++;
    }
}
} // namespace

int
main(int argc, char** argv)
{
    if (argc < 4)
    {
        return 2;
    }
    left = std::strtoull(argv[1], nullptr, 10);
    // Ethernet 14, IPv4 20, UDP 8, FCS 4
    const uint32_t payload = std::strtoul(argv[2], nullptr, 10) - 46;
    const std::string prefix = argv[3];

    Ptr<Node> sender = CreateObject<Node>();
    Ptr<Node> bridge = CreateObject<Node>();
    Ptr<Node> receiver = CreateObject<Node>();
    CsmaHelper csma;
    csma.SetChannelAttribute("DataRate", DataRateValue(DataRate("100Gbps")));
    csma.SetChannelAttribute("Delay", TimeValue(NanoSeconds(20)));
    csma.SetQueue("ns3::DropTailQueue", "MaxSize", StringValue("1000000p"));
    NetDeviceContainer near = csma.Install(NodeContainer(sender, bridge));
    NetDeviceContainer far = csma.Install(NodeContainer(receiver, bridge));
    BridgeHelper().Install(bridge, NetDeviceContainer(near.Get(1), far.Get(1)));

    InternetStackHelper stack;
    stack.Install(sender);
    stack.Install(receiver);
    Ipv4AddressHelper addresses("192.168.7.0", "255.255.255.0");
    addresses.Assign(near.Get(0));
    const Ipv4Address target = addresses.Assign(far.Get(0)).GetAddress(0);

    Ptr<Socket> sink = Socket::CreateSocket(receiver, UdpSocketFactory::GetTypeId());
    sink->Bind(InetSocketAddress(Ipv4Address::GetAny(), PORT));
    sink->SetRecvCallback(MakeCallback(&Receive));
    Ptr<Socket> source = Socket::CreateSocket(sender, UdpSocketFactory::GetTypeId());
    source->Connect(InetSocketAddress(target, PORT));
    // the first frame asks for the address, the others follow when everybody knows the way
    Simulator::Schedule(MilliSeconds(1), &Send, source, payload);
    csma.EnablePcapAll(prefix, true);

    const auto start = std::chrono::steady_clock::now();
    Simulator::Run();
    const std::chrono::duration<double> wall = std::chrono::steady_clock::now() - start;
    std::cout << received << " " << wall.count() << std::endl;
    Simulator::Destroy();
    return 0;
}
