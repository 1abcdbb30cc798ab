package doctor

import "k8s.io/apimachinery/pkg/labels"

// Pool checks that our Node, with these labels, is one of the pool's nodes and
// in a zone. selector and key are lock.node_selector and lock.topology_key.
func Pool(own map[string]string, selector, key string) []Finding {
	var found []Finding
	pool, err := labels.Parse(selector)
	switch {
	case err != nil: // which the configuration's own check refuses
		found = append(found, fail("correct lock.node_selector in /etc/kured/kured.toml", "%v", err))
	case !pool.Matches(labels.Set(own)):
		found = append(found, warn("label the Node, or correct lock.node_selector in /etc/kured/kured.toml",
			"this node is not one of the pool's (lock.node_selector = %q): limits are counted over other nodes than those that take turns", selector))
	}
	if key != "" && own[key] == "" {
		found = append(found, warn("label the Node, or correct lock.topology_key in /etc/kured/kured.toml",
			"the Node has no label %s: all nodes without it take turns as one zone more", key))
	}
	if len(found) > 0 {
		return found
	}
	if selector == "" {
		selector = "every node"
	}
	if key == "" {
		return one(ok("%s; zones do not matter", selector))
	}
	return one(ok("%s; zone %s", selector, own[key]))
}
