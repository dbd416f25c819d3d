/** Keys of antrea-agent.conf (Antrea 2.x, build/charts/antrea/conf/antrea-agent.conf) that seine has no use for: accepted with a warning. */
export const ANTREA_AGENT_KEYS: ReadonlySet<string> = new Set([
  'featureGates', 'hostProcPathPrefix', 'transportInterface', 'transportInterfaceCIDRs', 'multicastInterfaces', 'disableTXChecksumOffload',
  'apiPort', 'enablePrometheusMetrics', 'cniSocket', 'hostInterface', 'noSNAT', 'tunnelDestinationPort', 'wireGuard', 'egress',
  'ipsec', 'enableBridgingMode', 'kubeAPIServerOverride', 'dnsServerOverride', 'antreaClientConnection', 'clientConnection', 'nodePortLocal',
  'antreaProxy', 'flowExporter', 'flowCollectorAddr', 'flowPollInterval', 'activeFlowExportTimeout', 'idleFlowExportTimeout', 'cipherSuites',
  'tlsCipherSuites', 'tlsMinVersion', 'multicast', 'multicluster', 'secondaryNetwork', 'auditLogging', 'ovsRunDir', 'ovsDatapathType',
  'enableIPSecTunnel', 'antreaProxyAll', 'nodeType', 'externalNode', 'packetInRate', 'hostNetworkAcceleration', 'snatFullyRandomPorts',
  'fqdnCacheMinTTL', 'NodeNetworkPolicy', 'defaultLoadBalancerMode', 'enableSecurityMetrics', 'kubeAPIQPS', 'policyBypassRules',
]);
