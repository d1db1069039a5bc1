package main

import (
	"fmt"
	"os"
	"sync"

	"github.com/cloudnativelabs/kube-router/v2/pkg/controllers/netpol"
	"github.com/cloudnativelabs/kube-router/v2/pkg/healthcheck"
	"github.com/cloudnativelabs/kube-router/v2/pkg/options"
	"github.com/spf13/cobra"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
)

// What enforces network policies: kube-router's controller of them alone, without its routes and its service proxy.
func newPoliciesCommand() *cobra.Command {
	config := options.NewKubeRouterConfig()
	config.EnableIPv4 = true
	config.RunFirewall = true
	command := &cobra.Command{
		Use:  "policies",
		RunE: func(*cobra.Command, []string) error { return enforcePolicies(config) },
	}
	flags := command.Flags()
	flags.StringVar(&config.Kubeconfig, "kubeconfig", "", "how to reach the API server")
	flags.StringVar(&config.HostnameOverride, "hostname-override", "", "name of this node")
	flags.StringSliceVar(&config.ClusterIPCIDRs, "service-cluster-ip-range", nil, "addresses of services")
	flags.DurationVar(&config.IPTablesSyncPeriod, "iptables-sync-period", config.IPTablesSyncPeriod, "between two full runs")
	return command
}

func enforcePolicies(config *options.KubeRouterConfig) error {
	client, err := clientcmd.BuildConfigFromFlags("", config.Kubeconfig)
	if err != nil {
		return err
	}
	clients, err := kubernetes.NewForConfig(client)
	if err != nil {
		return err
	}
	never := make(chan struct{})
	factory := informers.NewSharedInformerFactory(clients, 0)
	pods := factory.Core().V1().Pods().Informer()
	namespaces := factory.Core().V1().Namespaces().Informer()
	policies := factory.Networking().V1().NetworkPolicies().Informer()
	factory.Start(never)
	for kind, synced := range factory.WaitForCacheSync(never) {
		if !synced {
			return fmt.Errorf("cannot list %v", kind)
		}
	}
	tables, sets, err := netpol.NewIPTablesHandlers(config)
	if err != nil {
		return err
	}
	controller, err := netpol.NewNetworkPolicyController(
		clients, config, pods, policies, namespaces, new(sync.Mutex), tables, sets)
	if err != nil {
		return err
	}
	pods.AddEventHandler(controller.PodEventHandler)
	namespaces.AddEventHandler(controller.NamespaceEventHandler)
	policies.AddEventHandler(controller.NetworkPolicyEventHandler)
	heartbeats := make(chan *healthcheck.ControllerHeartbeat)
	go func() {
		for range heartbeats {
		}
	}()
	var running sync.WaitGroup
	running.Add(1)
	controller.Run(heartbeats, never, &running)
	fmt.Fprintln(os.Stderr, "policies: ended")
	return nil
}
